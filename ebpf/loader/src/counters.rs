//! What the program counted since its maps were made.

use crate::{LoaderError, TcProgram};
use glacis_abi::Counter;

impl TcProgram {
    /// All counters by name, in a fixed order, summed over the CPUs. They never go back while the pins exist.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, LoaderError> {
        let cpus = self.cpus.get(&0, 0).map_err(LoaderError::map("CPU", "read"))?;
        let sum = |counter: Counter| cpus.iter().map(|cpu| cpu.counters[counter as usize]).sum();
        Ok(Counter::ALL.iter().map(|&counter| (counter.name(), sum(counter))).collect())
    }

    /// One counter, summed over the CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64, LoaderError> {
        let cpus = self.cpus.get(&0, 0).map_err(LoaderError::map("CPU", "read"))?;
        Ok(cpus.iter().map(|cpu| cpu.counters[counter as usize]).sum())
    }
}

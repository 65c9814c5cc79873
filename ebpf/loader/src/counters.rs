//! What the program counted since its maps were made.

use crate::{LoaderError, TcProgram};
use glacis_abi::Counter;

impl TcProgram {
    /// All counters by name, in a fixed order, summed over the CPUs. They never go back while the pins exist.
    pub fn counters(&self) -> Result<Vec<(&'static str, u64)>, LoaderError> {
        Counter::ALL.iter().map(|&counter| Ok((counter.name(), self.counter(counter)?))).collect()
    }

    /// One counter, summed over the CPUs.
    pub fn counter(&self, counter: Counter) -> Result<u64, LoaderError> {
        let per_cpu =
            self.counters.get(&(counter as u32), 0).map_err(LoaderError::map("COUNTERS", "read"))?;
        Ok(per_cpu.iter().sum())
    }
}

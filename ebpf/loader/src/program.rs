//! The program in the kernel and the handles of its maps.

use crate::attach::Direction;
use crate::device::LinkHeader;
use crate::pins::Pins;
use crate::settings::SettingsMap;
use crate::{EventStream, Hook, LoaderError, Settings};
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use glacis_abi::{Ban, Cpu, LINK_HEADER, MAPS, ProbeCount, ProbeKey, Proof, SourceKey};
use std::path::Path;

/// Built by `ebpf/rebuild` from `ebpf/program`, committed, and compared with a fresh build in CI.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../program/glacis.bpf.o");

/// The TC program, loaded: its maps, and what is needed to attach it.
///
/// Dropping it leaves everything as it is in the kernel: attached devices stay attached, bans stay in force.
pub struct TcProgram {
    pub(crate) pins: Pins,
    /// What new attachments use.
    pub(crate) hook: Hook,
    pub(crate) ethernet: Instance,
    /// Made when the first device without a link header is attached.
    pub(crate) headerless: Option<Instance>,
    pub(crate) settings: SettingsMap,
    pub(crate) bans: HashMap<MapData, SourceKey, Ban>,
    pub(crate) ban_prefixes: LpmTrie<MapData, SourceKey, Ban>,
    pub(crate) exposed: Array<MapData, u64>,
    pub(crate) udp_reply_ports: Array<MapData, u64>,
    pub(crate) probes: HashMap<MapData, ProbeKey, ProbeCount>,
    pub(crate) proven: HashMap<MapData, SourceKey, Proof>,
    pub(crate) cpus: PerCpuArray<MapData, Cpu>,
    pub(crate) events: Option<EventStream>,
}

impl TcProgram {
    /// Loads the program with its maps pinned below `pin_dir`, which must be on a BPF file system. Maps that an
    /// earlier process pinned there are taken over with all that is in them.
    pub fn load(pin_dir: &Path, settings: Settings) -> Result<Self, LoaderError> {
        let pins = Pins::prepare(pin_dir)?;
        let mut ethernet = Instance::load(&pins, LinkHeader::Ethernet)?;
        let mut maps = Maps(&mut ethernet.ebpf);
        let program = Self {
            hook: settings.hook.unwrap_or_else(Hook::of_this_kernel),
            settings: SettingsMap::open(maps.take("SETTINGS")?, pins.directory())?,
            bans: maps.take("BANS")?,
            ban_prefixes: maps.take("BAN_PREFIXES")?,
            exposed: maps.take("EXPOSED")?,
            udp_reply_ports: maps.take("UDP_REPLY_PORTS")?,
            probes: maps.take("PROBES")?,
            proven: maps.take("PROVEN")?,
            cpus: maps.take("CPU")?,
            events: Some(EventStream::new(maps.take("PRIORITY")?, maps.take("EVENTS")?)?),
            headerless: None,
            ethernet,
            pins,
        };
        program.configured(settings)
    }

    fn configured(mut self, settings: Settings) -> Result<Self, LoaderError> {
        self.set_detection(settings.detection)?;
        self.set_options(settings.options)?;
        self.settle_prefix_flag()?;
        Ok(self)
    }
}

/// The maps of a freshly loaded object, to be taken out one by one.
struct Maps<'a>(&'a mut Ebpf);

impl Maps<'_> {
    fn take<M: TryFrom<Map, Error = MapError>>(&mut self, name: &'static str) -> Result<M, LoaderError> {
        let map = self.0.take_map(name).ok_or(LoaderError::Object { name })?;
        M::try_from(map).map_err(LoaderError::map(name, "open"))
    }
}

/// Both programs, verified for one length of link header.
pub(crate) struct Instance {
    ebpf: Ebpf,
}

impl Instance {
    pub(crate) fn load(pins: &Pins, header: LinkHeader) -> Result<Self, LoaderError> {
        let bytes = header.bytes();
        let mut loader = EbpfLoader::new();
        loader.override_global(LINK_HEADER, &bytes, true);
        for name in MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
        let ebpf = loader.load(OBJECT).map_err(|e| LoaderError::Load(Box::new(e)))?;
        let mut instance = Self { ebpf };
        for direction in Direction::ALL {
            instance.program_mut(direction)?.load().map_err(|e| LoaderError::Verify(Box::new(e)))?;
        }
        Ok(instance)
    }

    pub(crate) fn program(&self, direction: Direction) -> Result<&SchedClassifier, LoaderError> {
        match self.ebpf.program(direction.program()) {
            Some(Program::SchedClassifier(program)) => Ok(program),
            _ => Err(LoaderError::Object { name: direction.program() }),
        }
    }

    pub(crate) fn program_mut(&mut self, direction: Direction) -> Result<&mut SchedClassifier, LoaderError> {
        match self.ebpf.program_mut(direction.program()) {
            Some(Program::SchedClassifier(program)) => Ok(program),
            _ => Err(LoaderError::Object { name: direction.program() }),
        }
    }
}

//! Attaching the program to devices, to both ways that packets go: by TCX, or by clsact filters on kernels before 6.6.

use crate::device::{Device, LinkHeader, index_of, name_of};
use crate::pins;
use crate::program::Instance;
use crate::{LoaderError, TcProgram};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcAttachType, TcError, TcHandle,
    qdisc_add_clsact,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier};
use aya::sys::SyscallError;
use aya::util::KernelVersion;
use glacis_abi::{EGRESS, INGRESS};
use std::fmt;
use std::path::Path;

/// The filter's place among clsact filters: before those that `tc` adds without a number, and always the same,
/// so that the next process replaces it instead of adding a second.
const FILTER_PRIORITY: u16 = 49;
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 1);

/// The way that a program's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// Flows that leave are remembered before what answers them is looked at.
    pub(crate) const ALL: [Self; 2] = [Self::Egress, Self::Ingress];

    /// The program's name in the object.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Ingress => INGRESS,
            Self::Egress => EGRESS,
        }
    }

    const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// How the program hangs on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// A pinned link, first in its chain. Linux 6.6.
    Tcx,
    /// A filter of the device's clsact qdisc.
    Clsact,
}

impl Hook {
    /// TCX where there is TCX.
    pub(crate) fn of_this_kernel() -> Self {
        match KernelVersion::current() {
            Ok(version) if version >= KernelVersion::new(6, 6, 0) => Self::Tcx,
            _ => Self::Clsact,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Tcx => Self::Clsact,
            Self::Clsact => Self::Tcx,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
        })
    }
}

/// A device that the program is attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    pub device: String,
    pub ifindex: u32,
    pub hook: Hook,
}

impl TcProgram {
    /// Attaches the program to a device of this network namespace. Where an earlier process has attached it, its
    /// program is replaced in place: no packet passes unseen in between.
    pub fn attach(&mut self, device: &str) -> Result<Attachment, LoaderError> {
        let device = Device::find(device)?;
        for direction in Direction::ALL {
            self.attach_way(&device, direction)?;
        }
        let hook = self.hook;
        tracing::info!(device = device.name, %hook, "attached the TC program");
        Ok(Attachment { device: device.name, ifindex: device.index, hook })
    }

    fn attach_way(&mut self, device: &Device, direction: Direction) -> Result<(), LoaderError> {
        let hook = self.hook;
        let pin = self.pins.hook(direction, hook, device.index);
        let program = self.instance(device.header)?.program_mut(direction)?;
        let attached = match hook {
            Hook::Tcx => attach_tcx(program, &device.name, direction, &pin),
            Hook::Clsact => attach_clsact(program, &device.name, direction),
        };
        attached.map_err(|e| LoaderError::Attach {
            device: device.name.clone(),
            hook,
            source: Box::new(e),
        })?;
        if hook == Hook::Clsact {
            pins::remove(&pin)?;
            program.pin(&pin).map_err(|e| pins::failed("pin", &pin)(std::io::Error::other(e)))?;
        }
        self.release(&device.name, device.index, direction, hook.other()).map(drop)
    }

    /// Takes the program off a device: true when it was attached. The clsact qdisc stays, others may use it.
    pub fn detach(&mut self, device: &str) -> Result<bool, LoaderError> {
        let index = index_of(device)?;
        let mut was_attached = false;
        for direction in Direction::ALL {
            for hook in [Hook::Tcx, Hook::Clsact] {
                was_attached |= self.release(device, index, direction, hook)?;
            }
        }
        if was_attached {
            tracing::info!(device, "detached the TC program");
        }
        Ok(was_attached)
    }

    /// The devices that the program is attached to, by this process or an earlier one, ordered by name. One that only
    /// a half of it is attached to is not among them.
    pub fn attached(&self) -> Result<Vec<Attachment>, LoaderError> {
        let hooks = self.pins.hooks()?;
        let is_whole = |ifindex, hook| {
            Direction::ALL.iter().all(|&direction| hooks.contains(&(ifindex, hook, direction)))
        };
        let mut attached: Vec<_> = hooks
            .iter()
            .filter(|&&(ifindex, hook, direction)| direction == Direction::Ingress && is_whole(ifindex, hook))
            .filter_map(|&(ifindex, hook, _)| Some(Attachment { device: name_of(ifindex)?, ifindex, hook }))
            .collect();
        attached.sort_unstable();
        Ok(attached)
    }

    /// Removes what is pinned for devices that are gone, and everything of other layout versions: with their links
    /// go their programs. To be called when every device is attached, so that none is without a program meanwhile.
    pub fn remove_stale(&self) -> Result<(), LoaderError> {
        for (ifindex, hook, direction) in self.pins.hooks()? {
            if name_of(ifindex).is_none() {
                pins::remove(&self.pins.hook(direction, hook, ifindex))?;
            }
        }
        for directory in self.pins.remove_other_layouts()? {
            tracing::info!(path = %directory.display(), "removed the maps and links of another version");
        }
        Ok(())
    }

    /// The program for a kind of device, loaded when the first of the kind comes.
    fn instance(&mut self, header: LinkHeader) -> Result<&mut Instance, LoaderError> {
        match (header, &mut self.headerless) {
            (LinkHeader::Ethernet, _) => Ok(&mut self.ethernet),
            (LinkHeader::Absent, Some(instance)) => Ok(instance),
            (LinkHeader::Absent, empty) => Ok(empty.insert(Instance::load(&self.pins, header)?)),
        }
    }

    /// Undoes one way of attaching: true when it was in use.
    fn release(
        &self,
        device: &str,
        index: u32,
        direction: Direction,
        hook: Hook,
    ) -> Result<bool, LoaderError> {
        let pin = self.pins.hook(direction, hook, index);
        if hook == Hook::Clsact && pin.exists() {
            let filter = filter_of(device, direction).map_err(ProgramError::from);
            match filter.and_then(aya::programs::links::Link::detach) {
                Err(error) if os_error(&error) != Some(libc::ENOENT) => {
                    return Err(LoaderError::Detach { device: device.to_owned(), source: Box::new(error) });
                }
                _ => {}
            }
        }
        pins::remove(&pin)
    }
}

fn attach_tcx(
    program: &mut SchedClassifier,
    device: &str,
    direction: Direction,
    pin: &Path,
) -> Result<(), ProgramError> {
    if let Some(earlier) = open_link(pin)? {
        match program.attach_to_link(earlier) {
            Ok(id) => return take(program, id).map(drop),
            // The link's device is gone and another has its index now.
            Err(error) if os_error(&error) == Some(libc::ENOLINK) => std::fs::remove_file(pin)?,
            Err(error) => return Err(error),
        }
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(device, direction.attach_type(), first)?;
    take(program, id)?.pin(pin).map_err(std::io::Error::other)?;
    Ok(())
}

/// The link that an earlier process pinned.
fn open_link(pin: &Path) -> Result<Option<SchedClassifierLink>, ProgramError> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(FdLink::from(link).try_into().map_err(std::io::Error::other)?)),
        Err(LinkError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

/// The link, out of the program's hands: what holds it from here on is its pin.
fn take(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<FdLink, ProgramError> {
    Ok(program.take_link(id)?.try_into().map_err(std::io::Error::other)?)
}

fn attach_clsact(
    program: &mut SchedClassifier,
    device: &str,
    direction: Direction,
) -> Result<(), ProgramError> {
    match qdisc_add_clsact(device) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    let options = NlOptions { priority: FILTER_PRIORITY, handle: FILTER_HANDLE, ..NlOptions::default() };
    let created =
        program.attach_with_options(device, direction.attach_type(), TcAttachOptions::Netlink(options));
    let id = match created {
        Err(error) if os_error(&error) == Some(libc::EEXIST) => {
            program.attach_to_link(filter_of(device, direction)?)?
        }
        other => other?,
    };
    // Dropped, it would take the filter away.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// A handle of our filter, whoever made it.
fn filter_of(device: &str, direction: Direction) -> std::io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(device, direction.attach_type(), FILTER_PRIORITY, FILTER_HANDLE, None)
}

fn os_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::NetlinkError(error) | ProgramError::TcError(TcError::NetlinkError(error)) => {
            error.raw_os_error()
        }
        ProgramError::IOError(error) => error.raw_os_error(),
        _ => None,
    }
}

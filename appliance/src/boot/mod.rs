//! PID 1 of the appliance: a small init.
//!
//! Brings the machine from the kernel's hands to a closed firewall, then to a mounted state, and then keeps the core
//! alive. It parses nothing that comes from a network and holds no rule: rulesets, links and addresses are the core's.
//!
//! | module | its concern |
//! |---|---|
//! | `console` | lines for people, with the time since boot |
//! | `mounts` | file systems, from one table |
//! | `modules` | the kernel's modules, and its calls of `modprobe` |
//! | `close` | the drop-all ruleset, before anything can send or receive |
//! | `loopback` | the one link that PID 1 brings up |
//! | `partitions`, `grow` | POLICY and DATA, and DATA's growth to the end of the disk |
//! | `signals`, `reap` | what the kernel tells PID 1 |
//! | `watch`, `supervise` | the core: started, watched, restarted |
//! | `watchdog` | the hardware's, fed while the core is alive |
//! | `stop` | the way down |
//!
//! PID 1 must never end: the kernel panics when it does. So nothing here panics, every failure becomes a line on the
//! console, and only one of them stops the boot: a firewall that does not close.

mod close;
mod console;
mod grow;
mod loopback;
mod modules;
mod mounts;
mod partitions;
mod reap;
mod signals;
mod stop;
mod supervise;
mod watch;
mod watchdog;

pub use modules::modprobe;

use console::say;
use glacis_image::partition::{DATA_NAME, POLICY_FILE, POLICY_NAME};
use modules::Modules;
use signals::Signals;
use std::path::{Path, PathBuf};
use supervise::CoreCommand;
use watchdog::Watchdog;

const POLICY_DIR: &str = "/policy";
const DATA_DIR: &str = "/data";
/// Below the root of DATA, so that `lost+found` is none of the core's business.
const STATE_DIR: &str = "/data/glacis";
/// Where state goes when there is no DATA: gone with the next boot, and said so.
const VOLATILE_STATE_DIR: &str = "/run/glacis/state";

/// Boots the machine and supervises the core until someone asks for the end.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|panic| say(format_args!("PID 1 panicked: {panic}"))));
    let mounted = mounts::mount_all();
    console::attach();
    say(format_args!("init started"));
    mounted.report();
    let signals = Signals::take();
    // From here on the kernel tells us of ctrl-alt-del instead of resetting the machine.
    if let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::CadOff) {
        say(format_args!("ctrl-alt-del resets the machine at once: {error}"));
    }

    let mut modules = Modules::read(Path::new("/"));
    modules.load_for_firewall();
    if let Err(error) = close::drop_everything() {
        say(format_args!(
            "FIREWALL NOT CLOSED: {}. No link comes up. Power the machine off and repair the image",
            crate::log::whole(&error)
        ));
        stop::stop(supervise::wait_for_the_end(&signals));
    }
    say(format_args!("firewall closed"));

    loopback::bring_up();
    modules.load_rest_beside();
    modules.load_for_disks();
    let state = mount_partitions(&mut modules);
    let core = CoreCommand::new(&Path::new(POLICY_DIR).join(POLICY_FILE), &state);
    stop::stop(supervise::supervise(&core, &signals, Watchdog::open()));
}

/// Mounts POLICY and DATA. Without them the core runs all the same, and says what it misses. Returns the folder for
/// the core's state.
fn mount_partitions(modules: &mut Modules) -> PathBuf {
    let found = partitions::wait_for(modules);
    match &found.policy {
        Some(policy) => partitions::mount_policy(policy),
        None => say(format_args!("no partition {POLICY_NAME}: no policy")),
    }
    if let Some(data) = &found.data {
        grow::grow_partition(data);
        if partitions::mount_data(data) {
            grow::grow_file_system(data, Path::new(DATA_DIR));
            return STATE_DIR.into();
        }
    } else {
        say(format_args!("no partition {DATA_NAME}"));
    }
    say(format_args!("state is lost with the next boot"));
    VOLATILE_STATE_DIR.into()
}

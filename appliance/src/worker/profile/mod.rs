//! What each worker may do: its identity, its limits and its system calls, as data.

mod gate;
mod status;

pub use gate::GATE;
pub use status::STATUS;

use libc::c_long;

/// The sandbox of one kind of worker.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub name: &'static str,
    /// Of no user or group that any host names; workers share neither.
    pub uid: u32,
    pub gid: u32,
    /// Most open descriptors.
    pub open_files_max: u64,
    /// Most bytes of heap, stack and private mappings.
    pub data_bytes_max: u64,
    /// Most threads of the user, over all processes; 0: no second one in this process.
    pub threads_max: u64,
    pub network: Network,
    /// Answered with `ENOSYS`, as a kernel that does not know them would: callers have an older way.
    pub unknown: &'static [c_long],
    /// Anything else ends the process.
    pub syscalls: &'static [Syscall],
}

/// What Landlock leaves of the network; sockets that were passed in are not its business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    None,
    /// TCP connections outwards, no listening.
    Connect,
}

/// One row of an allow-list. Rows of the same call are alternatives.
#[derive(Debug, Clone, Copy)]
pub struct Syscall {
    pub number: c_long,
    /// All must hold.
    pub arguments: &'static [Argument],
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for who reads the list; a test demands it in every row")
    )]
    pub why: &'static str,
}

/// What the lower 32 bits of one argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    Is {
        index: u8,
        value: u32,
    },
    /// None of these bits.
    Lacks {
        index: u8,
        bits: u32,
    },
    /// All of these bits.
    Has {
        index: u8,
        bits: u32,
    },
}

const fn any(number: c_long, why: &'static str) -> Syscall {
    Syscall { number, arguments: &[], why }
}

const fn only(number: c_long, arguments: &'static [Argument], why: &'static str) -> Syscall {
    Syscall { number, arguments, why }
}

/// Third argument of `mmap` and `mprotect`.
const NOT_EXECUTABLE: &[Argument] = &[Argument::Lacks { index: 2, bits: libc::PROT_EXEC as u32 }];
const ABORT: &[Argument] = &[Argument::Is { index: 2, value: libc::SIGABRT as u32 }];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_that_reaches_out_is_on_a_list() {
        for (name, number) in [
            ("open", libc::SYS_open),
            ("openat", libc::SYS_openat),
            ("openat2", libc::SYS_openat2),
            ("bind", libc::SYS_bind),
            ("listen", libc::SYS_listen),
            ("execve", libc::SYS_execve),
            ("execveat", libc::SYS_execveat),
            ("fork", libc::SYS_fork),
            ("vfork", libc::SYS_vfork),
            ("ptrace", libc::SYS_ptrace),
            ("bpf", libc::SYS_bpf),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("kill", libc::SYS_kill),
            ("ioctl", libc::SYS_ioctl),
            ("pwrite64", libc::SYS_pwrite64),
            ("ftruncate", libc::SYS_ftruncate),
        ] {
            for profile in [STATUS, GATE] {
                let allowed = profile.syscalls.iter().any(|row| row.number == number);
                assert!(!allowed, "{name} must not be allowed to {}", profile.name);
            }
        }
    }

    #[test]
    fn the_status_worker_makes_no_socket_and_no_thread() {
        for number in
            [libc::SYS_socket, libc::SYS_connect, libc::SYS_clone, libc::SYS_clone3, libc::SYS_prctl]
        {
            assert!(STATUS.syscalls.iter().all(|row| row.number != number));
        }
        assert_eq!((STATUS.threads_max, STATUS.network), (0, Network::None));
    }

    #[test]
    fn every_row_says_why_and_no_row_undoes_another() {
        for profile in [STATUS, GATE] {
            for (index, row) in profile.syscalls.iter().enumerate() {
                assert!(!row.why.is_empty());
                let twins = profile.syscalls[index + 1..].iter().filter(|other| other.number == row.number);
                for twin in twins {
                    assert!(
                        !row.arguments.is_empty() && !twin.arguments.is_empty(),
                        "an unconditional row makes the other rows of system call {} idle",
                        row.number
                    );
                }
            }
        }
    }
}

//! What each worker may do: its identity, its limits and its system calls, as data.

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
    /// Anything else ends the process.
    pub syscalls: &'static [Syscall],
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
}

const fn any(number: c_long, why: &'static str) -> Syscall {
    Syscall { number, arguments: &[], why }
}

const fn only(number: c_long, arguments: &'static [Argument], why: &'static str) -> Syscall {
    Syscall { number, arguments, why }
}

/// Third argument of `mmap` and `mprotect`.
const NOT_EXECUTABLE: &[Argument] = &[Argument::Lacks { index: 2, bits: libc::PROT_EXEC as u32 }];
const NO_DELAY: &[Argument] = &[
    Argument::Is { index: 1, value: libc::IPPROTO_TCP as u32 },
    Argument::Is { index: 2, value: libc::TCP_NODELAY as u32 },
];
const SET_LOCK: &[Argument] = &[Argument::Is { index: 1, value: libc::F_SETLK as u32 }];
const GET_FLAGS: &[Argument] = &[Argument::Is { index: 1, value: libc::F_GETFD as u32 }];
const ABORT: &[Argument] = &[Argument::Is { index: 2, value: libc::SIGABRT as u32 }];

/// Serves the read-only status page: answers visitors, hears the core, reads an open store.
///
/// It cannot open, create or execute a file, make a socket, start a thread or map executable memory.
/// Its event loop exists before the list applies, so that making one need not be allowed.
pub const STATUS: Profile = Profile {
    name: "status",
    uid: 65530,
    gid: 65530,
    open_files_max: 320,
    data_bytes_max: 96 << 20,
    syscalls: &[
        any(libc::SYS_accept4, "visitors"),
        any(libc::SYS_read, "the feed, wake-ups of the event loop"),
        any(libc::SYS_readv, "the feed, vectored"),
        any(libc::SYS_write, "readiness to the core, the log on standard error"),
        any(libc::SYS_writev, "answers, vectored"),
        any(libc::SYS_recvfrom, "requests"),
        any(libc::SYS_sendto, "answers"),
        any(libc::SYS_sendmsg, "answers, vectored"),
        any(libc::SYS_shutdown, "the end of a connection"),
        any(libc::SYS_close, "the end of a connection"),
        only(libc::SYS_setsockopt, NO_DELAY, "answers go out at once"),
        any(libc::SYS_epoll_wait, "the event loop"),
        any(libc::SYS_epoll_pwait, "the event loop"),
        any(libc::SYS_epoll_ctl, "the event loop"),
        any(libc::SYS_clock_gettime, "time, where the vDSO cannot tell it"),
        any(libc::SYS_getrandom, "seeds of hash tables"),
        any(libc::SYS_futex, "locks; the store's reader table"),
        any(libc::SYS_brk, "the heap"),
        only(libc::SYS_mmap, NOT_EXECUTABLE, "the heap; the store when it has grown"),
        only(libc::SYS_mprotect, NOT_EXECUTABLE, "the heap"),
        any(libc::SYS_mremap, "the heap"),
        any(libc::SYS_munmap, "the heap; the store when it has grown"),
        any(libc::SYS_madvise, "the heap gives memory back"),
        any(libc::SYS_pread64, "the store's meta page when it has grown"),
        any(libc::SYS_fstat, "the store's size when it has grown"),
        only(libc::SYS_fcntl, SET_LOCK, "the store's mark that this reader lives"),
        only(libc::SYS_fcntl, GET_FLAGS, "a check of the standard library before it closes, in debug builds"),
        any(libc::SYS_getpid, "the store's mark that this reader lives; abort"),
        any(libc::SYS_gettid, "the store's reader slot; abort"),
        any(libc::SYS_rt_sigprocmask, "abort"),
        any(libc::SYS_rt_sigaction, "abort"),
        any(libc::SYS_rt_sigreturn, "return from a signal"),
        any(libc::SYS_sigaltstack, "the end of the main thread"),
        only(libc::SYS_tgkill, ABORT, "abort"),
        any(libc::SYS_restart_syscall, "a wait that a stop signal broke"),
        any(libc::SYS_exit_group, "the end"),
        any(libc::SYS_exit, "the end"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_that_reaches_out_is_on_the_list() {
        for (name, number) in [
            ("open", libc::SYS_open),
            ("openat", libc::SYS_openat),
            ("openat2", libc::SYS_openat2),
            ("socket", libc::SYS_socket),
            ("connect", libc::SYS_connect),
            ("bind", libc::SYS_bind),
            ("execve", libc::SYS_execve),
            ("execveat", libc::SYS_execveat),
            ("clone", libc::SYS_clone),
            ("clone3", libc::SYS_clone3),
            ("fork", libc::SYS_fork),
            ("ptrace", libc::SYS_ptrace),
            ("bpf", libc::SYS_bpf),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("kill", libc::SYS_kill),
            ("ioctl", libc::SYS_ioctl),
            ("prctl", libc::SYS_prctl),
            ("pwrite64", libc::SYS_pwrite64),
            ("ftruncate", libc::SYS_ftruncate),
        ] {
            assert!(STATUS.syscalls.iter().all(|row| row.number != number), "{name} must not be allowed");
        }
    }

    #[test]
    fn every_row_says_why_and_no_row_undoes_another() {
        for (index, row) in STATUS.syscalls.iter().enumerate() {
            assert!(!row.why.is_empty());
            let twins = STATUS.syscalls[index + 1..].iter().filter(|other| other.number == row.number);
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

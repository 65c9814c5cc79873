//! The status worker's.

use super::{ABORT, Argument, NOT_EXECUTABLE, Network, Profile, any, only};

const NO_DELAY: &[Argument] = &[
    Argument::Is { index: 1, value: libc::IPPROTO_TCP as u32 },
    Argument::Is { index: 2, value: libc::TCP_NODELAY as u32 },
];
const SET_LOCK: &[Argument] = &[Argument::Is { index: 1, value: libc::F_SETLK as u32 }];
const GET_FLAGS: &[Argument] = &[Argument::Is { index: 1, value: libc::F_GETFD as u32 }];

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
    threads_max: 0,
    network: Network::None,
    unknown: &[],
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

//! The gate worker's.

use super::{ABORT, Argument, NOT_EXECUTABLE, Network, Profile, Syscall, any, only};

const STREAM: u32 = libc::SOCK_STREAM as u32 | libc::SOCK_NONBLOCK as u32 | libc::SOCK_CLOEXEC as u32;
const INET_STREAM: &[Argument] =
    &[Argument::Is { index: 0, value: libc::AF_INET as u32 }, Argument::Is { index: 1, value: STREAM }];
const INET6_STREAM: &[Argument] =
    &[Argument::Is { index: 0, value: libc::AF_INET6 as u32 }, Argument::Is { index: 1, value: STREAM }];
const UNIX_PAIR: &[Argument] =
    &[Argument::Is { index: 0, value: libc::AF_UNIX as u32 }, Argument::Is { index: 1, value: STREAM }];
const NAME_THREAD: &[Argument] = &[Argument::Is { index: 0, value: libc::PR_SET_NAME as u32 }];
const THREAD: &[Argument] =
    &[Argument::Has { index: 0, bits: libc::CLONE_THREAD as u32 | libc::CLONE_VM as u32 }];
const GET_FLAGS: &[Argument] = &[Argument::Is { index: 1, value: libc::F_GETFD as u32 }];
const DUPLICATE: &[Argument] = &[Argument::Is { index: 1, value: libc::F_DUPFD_CLOEXEC as u32 }];
const GET_PIPE_SIZE: &[Argument] = &[Argument::Is { index: 1, value: libc::F_GETPIPE_SZ as u32 }];
const SET_PIPE_SIZE: &[Argument] = &[Argument::Is { index: 1, value: libc::F_SETPIPE_SZ as u32 }];
const GET_STATUS: &[Argument] = &[Argument::Is { index: 1, value: libc::F_GETFL as u32 }];

/// `setsockopt` of one option.
const fn option(arguments: &'static [Argument], why: &'static str) -> Syscall {
    only(libc::SYS_setsockopt, arguments, why)
}

macro_rules! of {
    ($level:ident, $name:ident) => {
        &[
            Argument::Is { index: 1, value: libc::$level as u32 },
            Argument::Is { index: 2, value: libc::$name as u32 },
        ]
    };
}

/// Takes connections from sockets that are passed in, connects to clients' ports and to backends, and relays.
///
/// It cannot open, create or execute a file, listen, bind, make another socket than a TCP one, start a process or map
/// executable memory. It can start threads: one for each processor.
pub const GATE: Profile = Profile {
    name: "gate",
    uid: glacis_plan::gate::GATE_UID,
    gid: glacis_plan::gate::GATE_UID,
    open_files_max: 65_536,
    data_bytes_max: 512 << 20,
    threads_max: 1_024,
    network: Network::Connect,
    // The arguments of `clone3` lie in memory, where no filter sees them; the C library falls back to `clone`. Its heap
    // looks into /proc and /sys when threads give memory back, and does without what it cannot open.
    unknown: &[libc::SYS_clone3, libc::SYS_openat],
    syscalls: &[
        any(libc::SYS_accept4, "clients"),
        only(libc::SYS_socket, INET_STREAM, "clients' ports, backends"),
        only(libc::SYS_socket, INET6_STREAM, "clients' ports, backends"),
        only(libc::SYS_socketpair, UNIX_PAIR, "an event loop for each thread"),
        any(libc::SYS_connect, "clients' ports, backends"),
        any(libc::SYS_getsockopt, "what a connection came to; where a client wanted to go"),
        any(libc::SYS_getsockname, "the address that a client reached"),
        any(libc::SYS_getpeername, "whether a connection came about"),
        option(of!(IPPROTO_TCP, TCP_NODELAY), "relayed bytes go out at once"),
        option(of!(IPPROTO_TCP, TCP_SYNCNT), "looks that end by themselves"),
        option(of!(IPPROTO_TCP, TCP_QUICKACK), "relayed bytes are acknowledged at once"),
        option(of!(SOL_SOCKET, SO_LINGER), "resets that pass on, looks that leave nothing behind"),
        option(of!(IPPROTO_IP, IP_RECVERR), "ICMP errors told from resets"),
        option(of!(IPPROTO_IPV6, IPV6_RECVERR), "ICMPv6 errors told from resets"),
        any(libc::SYS_recvfrom, "headers, first messages, relayed bytes"),
        any(libc::SYS_recvmsg, "the feed with its descriptors; errors of a look"),
        any(libc::SYS_sendto, "relayed bytes, pages"),
        any(libc::SYS_sendmsg, "the feed"),
        any(libc::SYS_splice, "relayed bytes"),
        any(libc::SYS_pipe2, "relayed bytes in transit"),
        only(libc::SYS_fcntl, GET_PIPE_SIZE, "relayed bytes in transit"),
        only(libc::SYS_fcntl, SET_PIPE_SIZE, "relayed bytes in transit"),
        only(libc::SYS_fcntl, DUPLICATE, "wake-ups of the event loops"),
        only(libc::SYS_fcntl, GET_STATUS, "a check of the standard library, in debug builds"),
        only(libc::SYS_fcntl, GET_FLAGS, "a check of the standard library before it closes, in debug builds"),
        any(libc::SYS_shutdown, "the end of one direction"),
        any(libc::SYS_close, "the end of a connection"),
        any(libc::SYS_read, "wake-ups of the event loops"),
        any(libc::SYS_write, "wake-ups of the event loops, the log on standard error"),
        any(libc::SYS_readv, "relayed bytes, vectored"),
        any(libc::SYS_writev, "relayed bytes, vectored"),
        any(libc::SYS_epoll_create1, "an event loop for each thread"),
        any(libc::SYS_eventfd2, "an event loop for each thread"),
        any(libc::SYS_epoll_wait, "the event loops"),
        any(libc::SYS_epoll_pwait, "the event loops"),
        any(libc::SYS_epoll_ctl, "the event loops"),
        any(libc::SYS_clock_gettime, "time, where the vDSO cannot tell it"),
        any(libc::SYS_getrandom, "tokens, seeds of hash tables"),
        any(libc::SYS_futex, "locks"),
        any(libc::SYS_sched_yield, "locks"),
        only(libc::SYS_clone, THREAD, "a thread for each processor"),
        any(libc::SYS_set_robust_list, "a new thread"),
        any(libc::SYS_rseq, "a new thread"),
        any(libc::SYS_sched_getaffinity, "a new thread's stack"),
        only(libc::SYS_prctl, NAME_THREAD, "a new thread's name"),
        any(libc::SYS_prlimit64, "the bound of open descriptors"),
        any(libc::SYS_brk, "the heap"),
        only(libc::SYS_mmap, NOT_EXECUTABLE, "the heap; a new thread's stack; the country database"),
        only(libc::SYS_mprotect, NOT_EXECUTABLE, "the heap; a new thread's stack"),
        any(libc::SYS_mremap, "the heap"),
        any(libc::SYS_munmap, "the heap; an ended thread's stack"),
        any(libc::SYS_madvise, "the heap gives memory back"),
        any(libc::SYS_fstat, "the country database's size"),
        any(libc::SYS_statx, "the country database's size"),
        any(libc::SYS_getpid, "abort"),
        any(libc::SYS_gettid, "abort"),
        any(libc::SYS_rt_sigprocmask, "abort; a new thread"),
        any(libc::SYS_rt_sigaction, "abort"),
        any(libc::SYS_rt_sigreturn, "return from a signal"),
        any(libc::SYS_sigaltstack, "a thread's begin and end"),
        only(libc::SYS_tgkill, ABORT, "abort"),
        any(libc::SYS_restart_syscall, "a wait that a stop signal broke"),
        any(libc::SYS_exit_group, "the end"),
        any(libc::SYS_exit, "the end of a thread"),
    ],
};

//! What can go wrong between user space and the TC program.

use crate::Hook;
use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use ipnet::IpNet;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    #[error(
        "{path} is not on a BPF file system; mount one there or above (mount -t bpf bpf /sys/fs/bpf), or name \
         another directory"
    )]
    NotBpffs { path: PathBuf },
    #[error("cannot {action} {path}")]
    Pin {
        /// What was tried, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the kernel refuses the TC program; it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and Linux 5.12"
    )]
    Load(#[source] Box<EbpfError>),
    #[error("the kernel's verifier refuses the TC program")]
    Verify(#[source] Box<ProgramError>),
    #[error("the kernel does not run the TC program on a frame of ours (BPF_PROG_TEST_RUN)")]
    Trial(#[source] Box<ProgramError>),
    #[error(
        "the embedded object has no {name}: it is not the one that this loader was written for; rebuild it"
    )]
    Object { name: &'static str },
    #[error(
        "the maps below {path} have layout {found}, and this program has {}; remove them",
        glacis_abi::LAYOUT
    )]
    ForeignLayout { path: PathBuf, found: u32 },
    #[error("the kernel has no random bytes for the cookies' key")]
    NoRandomness(#[source] io::Error),
    #[error("cannot wait for the program's two rings at once")]
    Epoll(#[source] io::Error),
    #[error("map {map}: cannot {action}")]
    Map {
        map: &'static str,
        /// What was tried, as a verb.
        action: &'static str,
        #[source]
        source: Box<MapError>,
    },
    #[error("{net} cannot be banned in the TC program: all {max} entries are taken")]
    BansFull { net: IpNet, max: usize },
    #[error("{net} covers all of IPv4 too, as IPv4-mapped addresses; ban a longer prefix")]
    BanCoversIpv4 { net: IpNet },
    #[error("there is no device {device} in this network namespace")]
    NoDevice { device: String, source: io::Error },
    #[error("{device} is of link type {kind} (ARPHRD), whose header the TC program does not know")]
    UnknownLink { device: String, kind: u16 },
    #[error("cannot attach the TC program to {device} by {hook}")]
    Attach {
        device: String,
        hook: Hook,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("cannot detach the TC program from {device}")]
    Detach {
        device: String,
        #[source]
        source: Box<ProgramError>,
    },
}

impl LoaderError {
    /// For `map_err`: names the map and what was tried with it.
    pub(crate) fn map<E: Into<MapError>>(map: &'static str, action: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Map { map, action, source: Box::new(source.into()) }
    }
}

//! What the policy asks of network interfaces.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// One interface to converge, already bound to a kernel name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePlan {
    /// The name in the policy.
    pub name: String,
    /// The kernel's name, at most 15 bytes. Equal to `name` when the policy matches by name.
    pub device: String,
    pub addressing: Vec<Addressing>,
    pub mtu: Option<u32>,
    pub routes: Vec<RoutePlan>,
}

/// How an interface gets an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    Static(IpNet),
    Dhcp4,
}

/// A route out of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutePlan {
    /// `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// `None`: on link.
    pub gateway: Option<IpAddr>,
    pub metric: Option<u32>,
}

/// An Ethernet address, in transmission order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads six two-digit hexadecimal groups separated by colons or hyphens, of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 6];
        let mut groups = text.split([':', '-']);
        for byte in &mut bytes {
            let group = groups.next().filter(|g| g.len() == 2)?;
            *byte = u8::from_str_radix(group, 16).ok()?;
        }
        groups.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A PCI function, as the kernel prints it: `0000:02:00.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress(String);

impl PciAddress {
    /// Reads `domain:bus:device.function` in hexadecimal, four, two, two and one digits.
    pub fn parse(text: &str) -> Option<Self> {
        const SHAPE: &[u8] = b"hhhh:hh:hh.h";
        let matches = text.len() == SHAPE.len()
            && text.bytes().zip(SHAPE).all(|(c, s)| if *s == b'h' { c.is_ascii_hexdigit() } else { c == *s });
        matches.then(|| Self(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

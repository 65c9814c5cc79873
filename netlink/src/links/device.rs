//! Finding an interface, and the hardware beneath it.

use super::error::{LinksError, errno};
use futures_util::TryStreamExt;
use glacis_plan::{Mac, ObservedLink, PciAddress};
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use std::fs;
use std::path::{Component, Path};

/// Asks the kernel for one interface.
pub(super) async fn find(handle: &Handle, device: &str) -> Result<LinkMessage, LinksError> {
    let missing = || LinksError::NoDevice { device: device.to_owned() };
    let found = handle.link().get().match_name(device).execute().try_next().await;
    match found {
        Ok(found) => found.ok_or_else(missing),
        // ERANGE and EINVAL: a name that no interface can have.
        Err(error) if matches!(errno(&error), Some(libc::ENODEV | libc::ERANGE | libc::EINVAL)) => {
            Err(missing())
        }
        Err(error) => Err(LinksError::step(device, "find the interface", error)),
    }
}

/// Reads one message of a link dump; addresses and routes come from other dumps.
pub(super) fn observed(message: &LinkMessage) -> ObservedLink {
    let flags = message.header.flags;
    let mut link = ObservedLink {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        ..ObservedLink::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.device.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    link.pci = pci(&link.device);
    link
}

/// The PCI function of an interface, from sysfs. Interfaces of other network namespaces than the
/// one sysfs was mounted in are not there and have none.
fn pci(device: &str) -> Option<PciAddress> {
    let target = fs::canonicalize(Path::new("/sys/class/net").join(device).join("device")).ok()?;
    pci_of(&target)
}

/// `/sys/devices/.../0000:00:03.0`, or `.../0000:00:03.0/virtio0` where virtio lies between. A USB
/// adapter's PCI ancestor is its host controller, which it shares with others: it has none.
fn pci_of(device: &Path) -> Option<PciAddress> {
    let mut names = device.components().rev().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let last = names.next()?;
    let function = if last.starts_with("virtio") { names.next()? } else { last };
    PciAddress::parse(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pci_text(path: &str) -> Option<String> {
        pci_of(Path::new(path)).map(|pci| pci.to_string())
    }

    #[test]
    fn a_network_card_has_the_address_of_its_function() {
        let path = "/sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.1";
        assert_eq!(pci_text(path).as_deref(), Some("0000:02:00.1"));
    }

    #[test]
    fn a_virtio_card_has_the_address_of_the_function_above_it() {
        let path = "/sys/devices/pci0000:00/0000:00:03.0/virtio1";
        assert_eq!(pci_text(path).as_deref(), Some("0000:00:03.0"));
    }

    #[test]
    fn usb_and_platform_devices_have_none() {
        assert_eq!(pci_text("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0"), None);
        assert_eq!(pci_text("/sys/devices/platform/soc/fe300000.mmc/virtio0"), None);
        assert_eq!(pci_text("/"), None);
    }
}

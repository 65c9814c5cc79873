//! Kernel parameters, each with its reason.
//!
//! `nf_conntrack_tcp_loose` is left alone: it exists only once connection tracking runs, and a segment from
//! the middle of a connection meets the same rules as its first.

use glacis_plan::{GatePlan, InterfacePlan, Sysctl};

/// Where a parameter is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// One value for the host.
    Host,
    /// `conf/all` and `conf/default`, for rules that combine with the device's own so that `all` decides.
    All,
    /// Also at every device of the policy, because `all` does not override a device's value.
    Devices,
}

struct Parameter {
    scope: Scope,
    /// `{}` stands for `all`, `default` or a device.
    path: &'static str,
    value: &'static str,
}

/// Written in this order: switching forwarding resets others of a device, so it comes first.
const PARAMETERS: [Parameter; 13] = [
    // A source that another interface leads to is forged. The ruleset checks the same for both families and
    // counts it; this holds while no ruleset is loaded.
    Parameter { scope: Scope::All, path: "net/ipv4/conf/{}/rp_filter", value: "1" },
    // A neighbour must not be able to change our routes.
    Parameter { scope: Scope::Devices, path: "net/ipv4/conf/{}/accept_redirects", value: "0" },
    Parameter { scope: Scope::Devices, path: "net/ipv4/conf/{}/secure_redirects", value: "0" },
    Parameter { scope: Scope::Devices, path: "net/ipv6/conf/{}/accept_redirects", value: "0" },
    // Nor to give us an address. Addresses come from the policy.
    Parameter { scope: Scope::Devices, path: "net/ipv6/conf/{}/accept_ra", value: "0" },
    Parameter { scope: Scope::Devices, path: "net/ipv6/conf/{}/autoconf", value: "0" },
    // Hosts that were told of a shorter way would go around the firewall.
    Parameter { scope: Scope::Devices, path: "net/ipv4/conf/{}/send_redirects", value: "0" },
    // The sender does not choose the path.
    Parameter { scope: Scope::All, path: "net/ipv4/conf/{}/accept_source_route", value: "0" },
    Parameter { scope: Scope::Devices, path: "net/ipv6/conf/{}/accept_source_route", value: "0" },
    // Removing one address must not take its neighbours of the same network along.
    Parameter { scope: Scope::All, path: "net/ipv4/conf/{}/promote_secondaries", value: "1" },
    // A SYN flood must not fill the backlog of our own listeners.
    Parameter { scope: Scope::Host, path: "net/ipv4/tcp_syncookies", value: "1" },
    // A reset that arrives late must not end a connection that reused its ports (RFC 1337).
    Parameter { scope: Scope::Host, path: "net/ipv4/tcp_rfc1337", value: "1" },
    // Nobody's amplifier.
    Parameter { scope: Scope::Host, path: "net/ipv4/icmp_echo_ignore_broadcasts", value: "1" },
];

/// Forwarding is on only when the policy lets anything pass between zones, or the kernel leads clients of a gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Forwarding {
    Off,
    On,
}

/// For relays, each of whose connections takes a local port: more of them, and sooner again. Both ends keep timestamps, so
/// that a late segment of an earlier connection is told from the new one (RFC 6191).
const RELAY_PARAMETERS: [(&str, &str); 2] =
    [("net/ipv4/ip_local_port_range", "16384\t65535"), ("net/ipv4/tcp_tw_reuse", "1")];

pub(super) fn compile(
    forwarding: Forwarding,
    interfaces: &[InterfacePlan],
    gates: &[GatePlan],
) -> Vec<Sysctl> {
    let value = if forwarding == Forwarding::On { "1" } else { "0" };
    let mut sysctls = vec![
        sysctl("net/ipv4/ip_forward".to_owned(), value),
        sysctl("net/ipv6/conf/all/forwarding".to_owned(), value),
    ];
    for Parameter { scope, path, value } in PARAMETERS {
        if scope == Scope::Host {
            sysctls.push(sysctl(path.to_owned(), value));
            continue;
        }
        let devices = interfaces.iter().map(|interface| interface.device.as_str());
        let devices = devices.filter(|_| scope == Scope::Devices);
        let scopes = ["all", "default"].into_iter().chain(devices);
        sysctls.extend(scopes.map(|of| sysctl(path.replace("{}", of), value)));
    }
    if !gates.is_empty() {
        sysctls.extend(RELAY_PARAMETERS.map(|(path, value)| sysctl(path.to_owned(), value)));
    }
    sysctls
}

fn sysctl(path: String, value: &str) -> Sysctl {
    Sysctl { path, value: value.to_owned() }
}

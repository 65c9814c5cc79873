//! Port bitmaps: which ports are never counted.

use crate::{LoaderError, TcProgram};
use aya::maps::{Array, MapData};
use glacis_abi::{PORT_WORDS, Protocol, port_bit, port_word};

const EXPOSED: &str = "EXPOSED";
const UDP_REPLY_PORTS: &str = "UDP_REPLY_PORTS";

impl TcProgram {
    /// Names the ports that the policy forwards or serves without a socket of this host; they count as open.
    /// Replaces what was named before; a port in both stays exposed throughout.
    pub fn set_exposed(
        &mut self,
        tcp: impl IntoIterator<Item = u16>,
        udp: impl IntoIterator<Item = u16>,
    ) -> Result<(), LoaderError> {
        let mut words = [0_u64; 2 * PORT_WORDS];
        let tcp = tcp.into_iter().map(|port| (Protocol::Tcp, port));
        let udp = udp.into_iter().map(|port| (Protocol::Udp, port));
        for (protocol, port) in tcp.chain(udp) {
            words[port_word(protocol, port) as usize] |= port_bit(port);
        }
        write(&mut self.exposed, EXPOSED, &words)
    }

    /// Names the source ports whose UDP packets are taken for replies and never counted: 53, 123, 443 and the
    /// like. Replaces what was named before.
    pub fn set_udp_reply_ports(&mut self, ports: impl IntoIterator<Item = u16>) -> Result<(), LoaderError> {
        let mut words = [0_u64; PORT_WORDS];
        for port in ports {
            words[port_word(Protocol::Tcp, port) as usize] |= port_bit(port);
        }
        write(&mut self.udp_reply_ports, UDP_REPLY_PORTS, &words)
    }
}

fn write(map: &mut Array<MapData, u64>, name: &'static str, words: &[u64]) -> Result<(), LoaderError> {
    for (index, word) in (0..).zip(words) {
        map.set(index, word, 0).map_err(LoaderError::map(name, "write"))?;
    }
    Ok(())
}

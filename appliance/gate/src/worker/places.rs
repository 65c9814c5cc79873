//! Places for connections that wait, of which no network has too many.

use super::networks::Network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One network may have one part in so many of the places.
const SHARE: usize = 4;

/// All threads share them.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Never zero.
    of_network: HashMap<Network, usize>,
}

/// Free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    network: Network,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// `None`: there is none left, or none for this client's network.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let network = Network::of(client);
        let mut taken = self.taken();
        let held = taken.of_network.get(&network).copied().unwrap_or(0);
        if taken.all >= self.most || held >= self.most / SHARE {
            return None;
        }
        taken.all += 1;
        taken.of_network.insert(network, held + 1);
        drop(taken);
        Some(Place { places: Arc::clone(self), network })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // A panic ends the process.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(held) = taken.of_network.get_mut(&self.network) {
            *held -= 1;
            if *held == 0 {
                taken.of_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(net: u8, host: u8) -> IpAddr {
        Ipv4Addr::new(203, 0, net, host).into()
    }

    #[test]
    fn a_network_has_a_quarter_of_the_places_and_four_have_all() {
        let places = Places::new(16);
        let mut taken: Vec<Place> = Vec::new();
        for net in 0..4 {
            taken.extend((0..4).map(|host| places.take(client(net, host)).unwrap()));
            assert!(places.take(client(net, 4)).is_none());
        }
        assert!(places.take(client(9, 1)).is_none());
        taken.remove(0);
        assert!(places.take(client(1, 9)).is_none(), "one of another network has gone");
        assert!(places.take(client(9, 1)).is_some());
        assert!(places.take(client(0, 9)).is_some());
        drop(taken);
        let left = places.taken();
        assert!(left.all == 0 && left.of_network.is_empty(), "{left:?}");
    }
}

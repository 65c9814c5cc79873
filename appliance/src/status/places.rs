//! Who may be here at the same time: so many in all, so many of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for visitors.
#[derive(Debug, Clone)]
pub struct Places {
    all: Arc<Semaphore>,
    per_source_max: u32,
    by_source: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Places {
    pub fn new(all_max: usize, per_source_max: u32) -> Self {
        Self { all: Arc::new(Semaphore::new(all_max)), per_source_max, by_source: Arc::default() }
    }

    /// Waits for a place.
    pub async fn any(&self) -> OwnedSemaphorePermit {
        self.all.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// `None` when all places are taken, or the source has too many already.
    pub fn now(&self, source: IpAddr) -> Option<Seat> {
        self.of_source(self.all.clone().try_acquire_owned().ok()?, source)
    }

    /// `None` when the source has too many already.
    pub fn of_source(&self, place: OwnedSemaphorePermit, source: IpAddr) -> Option<Seat> {
        let source = source.to_canonical();
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = by_source.entry(source).or_default();
        if *taken == self.per_source_max {
            return None;
        }
        *taken += 1;
        Some(Seat { source, by_source: self.by_source.clone(), _place: place })
    }

    pub fn free(&self) -> usize {
        self.all.available_permits()
    }
}

/// One visitor's place; given back on drop.
#[derive(Debug)]
pub struct Seat {
    source: IpAddr,
    by_source: Arc<Mutex<HashMap<IpAddr, u32>>>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_source.get_mut(&self.source) {
            *taken -= 1;
            if *taken == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_source_cannot_take_all_places_and_gives_them_back() {
        let places = Places::new(256, 32);
        let [peer, mapped, other] =
            ["203.0.113.9", "::ffff:203.0.113.9", "203.0.113.10"].map(|text| text.parse().unwrap());
        let mut seats = Vec::new();
        for _ in 0..32 {
            seats.push(places.of_source(places.any().await, peer).unwrap());
        }
        assert!(places.of_source(places.any().await, peer).is_none());
        assert!(places.now(mapped).is_none(), "the same source by its other name");
        assert!(places.now(other).is_some());
        seats.pop();
        assert!(places.now(peer).is_some());
        seats.clear();
        assert!(places.by_source.lock().unwrap().is_empty());
        assert_eq!(places.free(), 256);
    }

    #[test]
    fn who_does_not_wait_is_refused_when_all_places_are_taken() {
        let places = Places::new(2, 2);
        let seats = ["203.0.113.1", "203.0.113.2"].map(|text| places.now(text.parse().unwrap()).unwrap());
        assert!(places.now("203.0.113.3".parse().unwrap()).is_none());
        drop(seats);
        assert!(places.now("203.0.113.3".parse().unwrap()).is_some());
    }
}

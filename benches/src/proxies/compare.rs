//! Proxies under the same load in turn, so that what else the machine does meets all of them.

use super::Running;
use super::load::{self, Window};
use crate::{Bound, Figure, Outcome, Unit, median};
use std::thread;
use std::time::Duration;

/// Idle connections have no more to settle after this.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Connections,
    Requests,
    Bulk,
}

impl Load {
    const fn rounds(self) -> usize {
        match self {
            Self::Connections | Self::Requests => 15,
            Self::Bulk => 9,
        }
    }

    const fn time(self) -> Duration {
        match self {
            Self::Connections | Self::Requests => Duration::from_millis(600),
            Self::Bulk => Duration::from_millis(900),
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Connections => "new connections/s",
            Self::Requests => "keep-alive requests/s",
            Self::Bulk => "bulk rate",
        }
    }

    fn show_rate(self, rate: f64) -> String {
        match self {
            Self::Connections | Self::Requests => format!("{:.1} k/s", rate / 1e3),
            Self::Bulk => format!("{:.1} Gbit/s", rate * 8e-9),
        }
    }

    fn show_processor(self, seconds: f64) -> String {
        match self {
            Self::Connections | Self::Requests => format!("{:.0} µs", seconds * 1e6),
            Self::Bulk => format!("{:.2} s/GB", seconds * 1e9),
        }
    }
}

/// What each proxy did in each round.
pub(crate) struct Compared<'a> {
    load: Load,
    rounds: Vec<(&'a Running<'a>, Vec<Window>)>,
}

/// Puts the proxies under load, one after the other, in several rounds.
pub(crate) fn compare<'a>(proxies: &[&'a Running<'a>], load: Load) -> Outcome<Compared<'a>> {
    let mut rounds: Vec<_> = proxies.iter().map(|proxy| (*proxy, Vec::new())).collect();
    for _ in 0..load.rounds() {
        for (proxy, windows) in &mut rounds {
            let (target, time, processor) = (proxy.target, load.time(), proxy.processor_time());
            let window = proxy.road.clients.enter(|| match load {
                Load::Connections => load::connections(target, time, &processor),
                Load::Requests => load::requests(target, time, &processor),
                Load::Bulk => load::bulk(target, time, &processor),
            });
            windows.push(window.map_err(|error| format!("{} of {}: {error}", load.what(), proxy.name))?);
        }
    }
    Ok(Compared { load, rounds })
}

impl Compared<'_> {
    /// How many times the peer's rate ours is: the median of the rounds' ratios.
    pub(crate) fn rate(
        &self,
        prefix: &str,
        ours: &Running<'_>,
        peer: &Running<'_>,
        bound: Bound,
    ) -> Outcome<Figure> {
        let what = format!("{prefix}{}", self.load.what());
        self.figure(what, ours, peer, bound, Window::rate, |rate| self.load.show_rate(rate))
    }

    /// The same of the processor's time that the proxies took for each connection, request or byte.
    pub(crate) fn processor(
        &self,
        prefix: &str,
        ours: &Running<'_>,
        peer: &Running<'_>,
        bound: Bound,
    ) -> Outcome<Figure> {
        let what = match self.load {
            Load::Connections => "processor's time for a connection",
            Load::Requests => "processor's time for a request",
            Load::Bulk => "processor's time for bulk",
        };
        let show = |seconds| self.load.show_processor(seconds);
        self.figure(format!("{prefix}{what}"), ours, peer, bound, Window::processor_each, show)
    }

    fn figure(
        &self,
        what: String,
        ours: &Running<'_>,
        peer: &Running<'_>,
        bound: Bound,
        value: impl Fn(&Window) -> f64,
        show: impl Fn(f64) -> String,
    ) -> Outcome<Figure> {
        let values = |proxy: &Running<'_>| -> Outcome<Vec<f64>> {
            let found = self.rounds.iter().find(|(running, _)| std::ptr::eq(*running, proxy));
            let (_, windows) = found.ok_or_else(|| format!("{} was not measured", proxy.name))?;
            Ok(windows.iter().map(&value).collect())
        };
        let (our_values, peer_values) = (values(ours)?, values(peer)?);
        let ratios = our_values.iter().zip(&peer_values).map(|(ours, peer)| ours / peer).collect();
        Ok(Figure {
            what,
            ours: show(median(our_values)),
            peer: format!("{} {}", peer.name, show(median(peer_values))),
            value: median(ratios),
            unit: Unit::Ratio,
            bound,
        })
    }
}

/// What each of so many idle connections takes of a proxy's own memory.
pub(crate) fn idle_kibibytes(proxy: &Running<'_>, count: usize) -> Outcome<f64> {
    let clients = &proxy.road.clients;
    let before = proxy.own_kibibytes()?;
    let connections = clients.enter(|| load::idle(proxy.target, count))?;
    thread::sleep(SETTLE);
    let each = (proxy.own_kibibytes()? - before) / count as f64;
    drop(connections);
    proxy.road.forget_idle()?;
    thread::sleep(SETTLE);
    Ok(each)
}

//! The trend: probes and sources day by day, drawn (A21).
//!
//! Two plots, one above the other, share the days and have scales of their own. Positions along the days are per
//! cent of the width and heights are pixels, so the drawing fits any screen and its letters keep their size.

use super::{period, unavailable};
use crate::days;
use crate::status::query::Period;
use crate::status::records::Answer;
use crate::words;
use glacis_control::scan_query::TrendDay;
use glacis_control::{Day, UnixMillis};
use maud::{Markup, html};

/// One of the two plots; lengths in pixels from the top of the drawing.
struct Plot {
    class: &'static str,
    name: &'static str,
    top: u32,
    height: u32,
    /// Value at the top.
    scale: u64,
    value: fn(&TrendDay) -> u64,
}

const HITS_TOP: u32 = 30;
const HITS_HEIGHT: u32 = 120;
const SOURCES_TOP: u32 = 196;
const SOURCES_HEIGHT: u32 = 64;
/// Where the days are written.
const DAYS_AT: u32 = SOURCES_TOP + SOURCES_HEIGHT + 20;
const HEIGHT: u32 = DAYS_AT + 6;
/// Most days that are written below the plots; every second one is left out on a phone.
const LABELS_MAX: usize = 7;

pub fn section(trend: &Answer<Vec<TrendDay>>, period: &Period, now: UnixMillis) -> Markup {
    html! {
        section .trend aria-labelledby="trend" {
            h2 #trend { "Day by day" }
            @match trend {
                Err(trouble) => (unavailable(&trouble.to_string())),
                Ok(trend) if trend.iter().all(|day| day.hits == 0) => {
                    p .empty { "No probe of a closed port: " (period::words(period)) "." }
                }
                Ok(trend) => {
                    (drawing(trend, period, now))
                    (table(trend))
                }
            }
        }
    }
}

fn drawing(trend: &[TrendDay], period: &Period, now: UnixMillis) -> Markup {
    let most = |value: fn(&TrendDay) -> u64| scale(trend.iter().map(value).max().unwrap_or(0));
    let plots = [
        Plot {
            class: "hits",
            name: "Probes a day",
            top: HITS_TOP,
            height: HITS_HEIGHT,
            scale: most(|day| day.hits),
            value: |day| day.hits,
        },
        Plot {
            class: "origins",
            name: "Sources a day",
            top: SOURCES_TOP,
            height: SOURCES_HEIGHT,
            scale: most(|day| day.sources),
            value: |day| day.sources,
        },
    ];
    html! {
        div .chart {
            svg .scale width="52" height=(HEIGHT) aria-hidden="true" {
                @for plot in &plots {
                    @for (value, y) in plot.ticks() {
                        text x="44" y=(y + 4) text-anchor="end" { (compact(value)) }
                    }
                }
            }
            svg .plot width="100%" height=(HEIGHT) role="img" aria-label=(described(trend, period)) {
                @for plot in &plots { (plot.draw(trend, Day::of(now))) }
                (written_days(trend))
                (pointed_at(trend, Day::of(now)))
            }
        }
    }
}

impl Plot {
    /// Values that have a line, and where: nothing, half if it is whole, and the scale.
    fn ticks(&self) -> Vec<(u64, u32)> {
        let bottom = self.top + self.height;
        let half = self.scale.is_multiple_of(2).then_some((self.scale / 2, bottom - self.height / 2));
        [Some((0, bottom)), half, Some((self.scale, self.top))].into_iter().flatten().collect()
    }

    fn draw(&self, trend: &[TrendDay], today: Day) -> Markup {
        let bottom = self.top + self.height;
        html! {
            rect .key.(self.class) x="0" y=(self.top - 24) width="9" height="9" rx="2" {}
            text .title x="15" y=(self.top - 15) { (self.name) }
            @for (_, y) in self.ticks() {
                line .grid x1="0" x2="100%" y1=(y) y2=(y) {}
            }
            @for (index, day) in trend.iter().enumerate() {
                @let value = (self.value)(day);
                @if value > 0 {
                    @let height = self.pixels(value);
                    rect .bar.(self.class).now[day.day == today]
                        x=(Share::of(index, trend.len(), GAP)) width=(Share::of_one(trend.len(), GAP))
                        y=(f64::from(bottom) - height) height=(height) {}
                }
            }
        }
    }

    /// Never so little that a day with something looks like one with nothing.
    fn pixels(&self, value: u64) -> f64 {
        let height = f64::from(self.height) * (value as f64 / self.scale as f64);
        (height.max(1.5) * 10.0).round() / 10.0
    }
}

/// Between two bars, as part of a bar's place.
const GAP: f64 = 0.24;

/// Per cent of the width.
struct Share(f64);

impl Share {
    /// Where the bar of a day begins.
    fn of(index: usize, days: usize, gap: f64) -> Self {
        Self((index as f64 + gap / 2.0) / days as f64)
    }

    /// How wide a day's bar is.
    fn of_one(days: usize, gap: f64) -> Self {
        Self((1.0 - gap) / days as f64)
    }
}

impl maud::Render for Share {
    fn render_to(&self, buffer: &mut String) {
        buffer.push_str(&format!("{:.3}%", self.0 * 100.0));
    }
}

/// A few days below the plots, the last one always.
fn written_days(trend: &[TrendDay]) -> Markup {
    let step = trend.len().div_ceil(LABELS_MAX).max(1);
    html! {
        @for (nth, (index, day)) in trend.iter().enumerate().rev().step_by(step).enumerate() {
            text .date.wide[nth % 2 == 1] x=(Share::of(index, trend.len(), 1.0)) y=(DAYS_AT) text-anchor="middle" {
                (days::short(day.day))
            }
        }
    }
}

/// Invisible until a pointer rests on a day.
fn pointed_at(trend: &[TrendDay], today: Day) -> Markup {
    html! {
        @for (index, day) in trend.iter().enumerate() {
            rect .day x=(Share::of(index, trend.len(), 0.0)) width=(Share::of_one(trend.len(), 0.0))
                y=(HITS_TOP) height=(SOURCES_TOP + SOURCES_HEIGHT - HITS_TOP) {
                title {
                    (words::day(day.day)) ": " (words::counted(day.hits, "probe", "probes"))
                    ", " (words::counted(day.sources, "source", "sources"))
                    @if day.day == today { " so far" }
                }
            }
        }
    }
}

/// The drawing in one sentence.
fn described(trend: &[TrendDay], period: &Period) -> String {
    let busiest = trend.iter().max_by_key(|day| day.hits);
    let busiest = busiest.map_or_else(String::new, |day| {
        format!(
            ", most on {} with {} from {}",
            words::day(day.day),
            words::counted(day.hits, "probe", "probes"),
            words::counted(day.sources, "source", "sources")
        )
    });
    format!(
        "Probes and sources of each day, {}{busiest}; the table below has every figure",
        period::words(period)
    )
}

fn table(trend: &[TrendDay]) -> Markup {
    html! {
        details {
            summary { "As a table" }
            table .narrow-table {
                caption .hidden { "Probes and sources of each day, newest first" }
                thead {
                    tr {
                        th scope="col" { "Day" }
                        th scope="col" .number { "Probes" }
                        th scope="col" .number { "Sources" }
                    }
                }
                tbody {
                    @for day in trend.iter().rev() {
                        tr {
                            th scope="row" { (words::day(day.day)) }
                            td .number { (words::count(day.hits)) }
                            td .number { (words::count(day.sources)) }
                        }
                    }
                }
            }
        }
    }
}

/// The next round number.
fn scale(most: u64) -> u64 {
    const SMALL: [u64; 6] = [1, 2, 4, 6, 8, 10];
    const TENTHS: [u64; 8] = [12, 16, 20, 30, 40, 60, 80, 100];
    if let Some(round) = SMALL.into_iter().find(|round| most <= *round) {
        return round;
    }
    let mut unit: u64 = 1;
    loop {
        for tenths in TENTHS {
            match unit.checked_mul(tenths) {
                Some(round) if most <= round => return round,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// `950`, `1.2k`, `40k`, `3M`.
fn compact(value: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let Some((unit, letter)) = UNITS.into_iter().find(|(unit, _)| value >= *unit) else {
        return value.to_string();
    };
    match (value / unit, value % unit / (unit / 10)) {
        (whole, 0) => format!("{}{letter}", words::count(whole)),
        (whole, tenth) => format!("{}.{tenth}{letter}", words::count(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::NOW;
    use super::*;
    use std::sync::Arc;

    fn shown(hits: &[u64]) -> String {
        let today = Day::of(NOW);
        let period = Period::last(hits.len() as u32, today);
        let trend =
            period.range.iter().zip(hits).map(|(day, &hits)| TrendDay { day, hits, sources: hits.min(3) });
        section(&Ok(Arc::new(trend.collect())), &period, NOW).into_string()
    }

    #[test]
    fn a21_every_day_of_both_series_is_drawn_named_and_tabled() {
        let text = shown(&[10, 0, 250, 1204]);
        assert_eq!((text.matches("bar hits").count(), text.matches("bar origins").count()), (3, 3));
        assert_eq!(text.matches("class=\"day\"").count(), 4);
        for part in [
            "<title>2026-11-21: 1\u{202f}204 probes, 3 sources so far</title>",
            "<title>2026-11-19: 0 probes, 0 sources</title>",
            "most on 2026-11-21 with 1\u{202f}204 probes from 3 sources",
            ">18 Nov</text>",
            ">1.6k</text>",
            "x=\"53.000%\" width=\"19.000%\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("scope=\"row\"").count(), 4);
    }

    #[test]
    fn a21_a_year_is_drawn_as_well_and_nothing_is_said_in_words() {
        let text = shown(&[1; 365]);
        assert_eq!(text.matches("bar hits").count(), 365);
        assert!(text.matches("class=\"date").count() <= LABELS_MAX);
        let empty = shown(&[0; 30]);
        assert!(
            !empty.contains("<svg") && empty.contains("No probe of a closed port: the last 30 days."),
            "{empty}"
        );
    }

    #[test]
    fn scales_are_round_and_never_below_what_they_hold() {
        for (most, expected) in
            [(0, 1), (1, 1), (3, 4), (5, 6), (10, 10), (11, 12), (1204, 1600), (61, 80), (801, 1000)]
        {
            assert_eq!(scale(most), expected, "{most}");
        }
        assert!(scale(u64::MAX) >= u64::MAX / 2);
        assert_eq!([999, 1000, 1500, 20_000, 1_200_000].map(compact), ["999", "1k", "1.5k", "20k", "1.2M"]);
    }
}

//! The first page: how the firewall stands, who scans, who is blocked.

use super::{
    Document, Part, Place, View, bans, footer, gates, health, log, period, summary, system, tops, trend,
};
use crate::status::query::{Period, link};
use crate::status::records::{Answer, Recent};
use glacis_control::scan_query::{PortTotal, ScanSummary, SourceTotal, Top, TrendDay};
use maud::{Markup, html};

pub struct Overview<'a> {
    pub view: View<'a>,
    pub period: Period,
    pub summary: Answer<ScanSummary>,
    pub trend: Answer<Vec<TrendDay>>,
    pub sources: Answer<Top<SourceTotal>>,
    pub ports: Answer<Top<PortTotal>>,
    pub recent: Answer<Recent>,
}

impl Overview<'_> {
    pub fn render(&self) -> Markup {
        let [
            now,
            figures,
            cards,
            chart,
            sources,
            ports,
            blocked,
            gates,
            scan,
            interfaces,
            happened,
            inside,
            report,
        ] = self.parts();
        let content = html! {
            (now)
            (figures)
            section .bare.heading aria-labelledby="scans" {
                h2 #scans { "Scans" }
                (period::control("/", &self.period, &[], self.view.now))
            }
            (cards)
            (chart)
            div .columns.tops { (sources) (ports) }
            (blocked)
            (gates)
            div .columns {
                div { (scan) (interfaces) }
                div { (happened) (inside) }
            }
        };
        let mut wanted = vec![("parts", "overview".to_owned())];
        wanted.extend(self.period.pairs());
        Document {
            name: &self.view.report.name,
            place: Some(Place::Overview),
            stream: Some(link("/api/v1/events/stream", &wanted)),
            content,
            footer: html! { (report) },
        }
        .render()
    }

    /// In the order of the page.
    pub fn parts(&self) -> [Part; 13] {
        let view = self.view;
        let part = |id, content| Part { id, content };
        let [now, figures] = health::parts(view);
        [
            now,
            figures,
            part("part-summary", summary::cards(&self.summary, &self.period)),
            part("part-trend", trend::section(&self.trend, &self.period, view.now)),
            part("part-sources", tops::sources(&self.sources, &self.period, view.now)),
            part("part-ports", tops::ports(&self.ports, &self.period)),
            part("part-bans", bans::newest(view, &self.recent)),
            part("part-gates", gates::overview(view)),
            part("part-scan", system::scan(view)),
            part("part-interfaces", system::interfaces(view.report)),
            part("part-events", log::newest(view, &self.recent)),
            part("part-inside", system::inside(view.report)),
            footer(view),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;
    use crate::status::feed::STALE_AFTER;
    use crate::status::records::Unavailable;
    use glacis_control::StatusReport;
    use glacis_control::report::FirewallState;
    use std::time::Duration;

    fn page(report: &StatusReport, age: Duration, change: impl FnOnce(&mut Overview<'_>)) -> String {
        let view = View { report, age, now: sample::NOW };
        let mut overview = sample::overview(view);
        change(&mut overview);
        overview.render().into_string()
    }

    fn fresh(report: &StatusReport) -> String {
        page(report, Duration::from_millis(300), |_| {})
    }

    #[test]
    fn the_page_tells_state_scans_bans_and_interfaces() {
        let text = fresh(&sample::report());
        for part in [
            "edge-1",
            "Applied",
            "203.0.113.9",
            "in 52 min",
            "412 probes",
            "3389/tcp",
            "192.0.2.1/24",
            "only detects",
            "1 of 2 up",
            "1\u{202f}300 clients are known",
            "Glacis 0.1.0",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("To act on"), "all is well");
    }

    #[test]
    fn every_state_of_the_firewall_has_its_own_words_and_tone() {
        for (firewall, words, class) in [
            (FirewallState::Applied, "Applied", "state good"),
            (FirewallState::DropAll, "All traffic dropped", "state bad"),
            (FirewallState::Tampered, "Tampered", "state bad"),
        ] {
            let text = fresh(&StatusReport { firewall, ..sample::report() });
            assert!(text.contains(words) && text.contains(class), "{words}: {text}");
        }
    }

    #[test]
    fn a_stale_report_is_shown_as_such_from_the_bound_on() {
        let at = |age| page(&sample::report(), age, |_| {});
        assert!(!at(STALE_AFTER).contains("No report for"));
        let text = at(STALE_AFTER + Duration::from_secs(1));
        assert!(text.contains("No report for 6 s") && text.contains("state warn"), "{text}");
    }

    #[test]
    fn foreign_text_is_shown_and_never_obeyed() {
        let evil = "<script>alert(1)</script>\"'&";
        let report = sample::evil_report(evil);
        let text = page(&report, Duration::ZERO, |overview| sample::make_evil(overview, evil));
        assert!(!text.contains("<script>") && !text.contains("\"'&\""), "{text}");
        let escaped = text.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;").count();
        assert!(escaped >= 16, "{escaped}: {text}");
    }

    #[test]
    fn a_refused_policy_shows_its_diagnostics() {
        let mut report = sample::report();
        report.policy.refused = Some("policy.kdl:12: unknown zone `hom`".into());
        let text = fresh(&report);
        assert!(text.contains("To act on") && text.contains("unknown zone `hom`"));
    }

    #[test]
    fn a_store_that_cannot_be_read_is_said_and_not_shown_as_empty() {
        let text = page(&sample::report(), Duration::ZERO, |overview| {
            let closed = Unavailable::Closed("the store cannot be opened".into());
            overview.recent = Err(closed.clone());
            overview.summary = Err(closed.clone());
            overview.trend = Err(closed.clone());
            overview.sources = Err(closed.clone());
            overview.ports = Err(closed);
        });
        assert_eq!(text.matches("the store cannot be opened").count(), 6, "{text}");
        for empty in ["No source is blocked", "No probe", "Nothing has happened"] {
            assert!(!text.contains(empty), "{empty}");
        }
    }

    #[test]
    fn the_page_holds_no_inline_script_style_or_foreign_address() {
        let text = fresh(&sample::report());
        for part in
            ["<script>", "style=", "<style", "http://", "https://", "javascript:", " onclick=", " onload="]
        {
            assert!(!text.contains(part), "{part}");
        }
        assert_eq!(text.matches("<script").count(), 1, "{text}");
        assert!(text.contains("<script src=\"/live.js\" defer></script>"));
    }

    #[test]
    fn no_two_things_share_an_id_and_every_label_has_its_thing() {
        let text = fresh(&sample::report());
        let ids: Vec<&str> = text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
        for named in text.split("aria-labelledby=\"").skip(1) {
            for name in named.split('"').next().unwrap().split(' ') {
                assert!(unique.binary_search(&name).is_ok(), "{name} names nothing");
            }
        }
    }
}

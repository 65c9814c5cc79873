//! No input makes the parser panic, overflow its stack, or run away: mutations and repetitions.

use glacis_policy::{Theme, parse};
use std::time::{Duration, Instant};

const SHIPPED: &str = include_str!("../../policy.kdl");
/// Nearly every word that a gate can say.
const GATE: &str = include_str!("../../fuzz/corpus/policy/gate");
const ROUNDS: usize = 3_000;
/// A sixteenth of the largest policy: enough to overflow a test's stack of 2 MiB where anything recurses.
const LARGE_BYTES: usize = glacis_policy::POLICY_BYTES_MAX / 16;
/// A debug build on a busy machine takes seconds; anything quadratic takes minutes.
const LARGE_TIME_MAX: Duration = Duration::from_secs(60);

/// Marsaglia's xorshift64, so that every run sees the same inputs.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Reads, and draws the report when there is one, for drawing has its own ways to fail.
fn survive(bytes: &[u8]) {
    if let Err(report) = parse("p.kdl", bytes) {
        assert!(report.count() > 0, "an error without a problem");
        let lines = report.source().text().lines().count() as u32 + 1;
        for problem in report.problems() {
            assert!(report.source().line_of(problem.span()) <= lines);
        }
        assert!(!report.render(Theme::Plain).is_empty());
    }
}

fn mutate(text: &mut Vec<u8>, random: &mut Random) {
    const PIECES: &[&str] = &[
        "{", "}", "=", "\"", "#", "/-", "/*", "*/", "//", "\\", "\n", ";", "(", ")", "10.0.0.1", "30m",
        "#true", "true", "self", "all", "-1", "0x", "\u{feff}", "é", "\"\"\"", "70000", "\0", "from=",
        "self", "\u{202e}",
    ];
    let at = random.below(text.len().max(1));
    match random.below(4) {
        0 => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        1 => {
            let end = (at + random.below(12)).min(text.len());
            text.drain(at..end);
        }
        2 => {
            let end = (at + random.below(60)).min(text.len());
            let copy = text[at..end].to_vec();
            let to = random.below(text.len().max(1));
            text.splice(to..to, copy);
        }
        _ => {
            if let Some(byte) = text.get_mut(at) {
                *byte = random.below(256) as u8;
            }
        }
    }
}

#[test]
fn mutations_of_policies_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for policy in [SHIPPED, GATE].into_iter().cycle().take(ROUNDS) {
        let mut text = policy.as_bytes().to_vec();
        for _ in 0..=random.below(6) {
            mutate(&mut text, &mut random);
        }
        survive(&text);
    }
}

#[test]
fn cutting_policies_anywhere_never_panics() {
    for policy in [SHIPPED, GATE] {
        for end in (0..policy.len()).step_by(7) {
            survive(&policy.as_bytes()[..end]);
        }
    }
}

/// Each of these makes a recursive parser overflow its stack, or a careless one quadratic.
#[test]
fn endless_repetitions_are_survived_in_bounded_time() {
    let pieces = [
        "{",
        "}",
        "a{",
        "a{}b",
        "=",
        "a = ",
        ")",
        "(",
        "[",
        "\\",
        "\"",
        "#",
        "/-",
        "/- a {",
        "/*",
        "* /",
        "x ",
        "\"{\" ",
        "10.0.0.1 ",
        "a b=c;",
        "a;",
        "/-a;",
        "\u{202e}",
        "a \"/*\";",
    ];
    for piece in pieces {
        let begun = Instant::now();
        survive(piece.repeat(LARGE_BYTES / piece.len()).as_bytes());
        assert!(begun.elapsed() < LARGE_TIME_MAX, "{piece:?} took {:?}", begun.elapsed());
    }
    survive(format!("/*{}*/", "* /".repeat(LARGE_BYTES / 4)).as_bytes());
}

/// Lists that are compared item by item.
#[test]
fn endless_lists_of_a_gate_are_survived_in_bounded_time() {
    for word in [
        "ports 1",
        "ignore \"10.0.0.1\"",
        "ignore country=DE",
        "backend \"10.0.0.2\"",
        "listen tcp=1 on=wan",
        "accept-proxy from=\"10.0.0.1\"",
        "route a.b.c.d.e.f",
        "route a { backend \"10.0.0.1\" }",
        "preset fast",
    ] {
        let (node, item) = word.split_once(' ').unwrap_or((word, ""));
        let nodes = format!("{word}\n").repeat(LARGE_BYTES / word.len() / 2);
        let items = format!(" {item}").repeat(LARGE_BYTES / word.len() / 2);
        let begun = Instant::now();
        for list in [nodes, format!("{node}{items}")] {
            survive(format!("policy version=1\ninterface wan\nreverse-scan a {{ {list} }}").as_bytes());
        }
        assert!(begun.elapsed() < LARGE_TIME_MAX, "{word:?} took {:?}", begun.elapsed());
    }
}

#[test]
fn a_large_policy_is_read_in_bounded_time() {
    let mut text = String::from("policy version=1\nset many {\n");
    let mut entries = 0_u32;
    while text.len() < LARGE_BYTES - 64 {
        let [_, b, c, d] = (entries * 2).to_be_bytes();
        text += &format!("entry \"10.{b}.{c}.{d}\"\n");
        entries += 1;
    }
    text += "}\n";
    let begun = Instant::now();
    let policy = parse("p.kdl", text.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(policy.sets[0].entries.len(), entries as usize);
    assert!(begun.elapsed() < LARGE_TIME_MAX, "{:?}", begun.elapsed());
    println!("{entries} entries, {} bytes in {:?}", text.len(), begun.elapsed());
}

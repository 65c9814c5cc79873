//! The gate before the KDL parser: finds every error of form, and lets only well-formed text through.
//!
//! The `kdl` crate recovers from errors by recursing once for each, and once for each `*` in a comment, so
//! that a megabyte of `=` or of stars ends the process by a stack overflow (kdl 6.7). Here all of it is a plain
//! loop with better hints; single words and texts are still judged by `kdl` itself. An error that has an
//! obvious meaning (`10.0.0.1` without quotes) is reported and repaired, so that the names and values of the
//! file are checked in the same run.

use super::lex::{Kind, Token, tokens};
use super::problems::Problems;
use crate::report::Problem;
use kdl::KdlEntry;
use miette::SourceSpan;
use std::ops::Range;

/// Blocks in blocks. The language needs two; the parser's time grows exponentially with this.
const DEPTH_MAX: usize = 4;

/// Longest word or text.
const ENTRY_BYTES_MAX: usize = 4_096;

/// Text that the KDL parser takes, and the way back to the places of the text it came from.
pub(super) struct Shaped {
    pub text: String,
    /// Offsets in `text` of the quotes that were put in, ascending.
    inserted: Vec<usize>,
}

impl Shaped {
    /// The span in the original text.
    pub fn original(&self, span: SourceSpan) -> SourceSpan {
        let back = |offset: usize| offset - self.inserted.partition_point(|at| *at < offset);
        let start = back(span.offset());
        (start, back(span.offset() + span.len()) - start).into()
    }
}

/// Reports every error of form; `None` when one of them leaves no sensible text to go on with.
pub(super) fn shape(text: &str, problems: &Problems) -> Option<Shaped> {
    let mut shaper = Shaper {
        text,
        problems,
        out: Shaped { text: String::with_capacity(text.len()), inserted: Vec::new() },
        open: Vec::new(),
        at: At::NodeStart,
        waits: None,
        spaced: true,
        broken: false,
    };
    for token in tokens(text) {
        shaper.token(&token);
        if shaper.open.len() > DEPTH_MAX {
            return None;
        }
    }
    shaper.end_of_node();
    if let Some(open) = shaper.open.last() {
        let span = (*open, 1).into();
        problems.add(Problem::new(span, "this block is never closed").hint("add the missing `}`"));
        return None;
    }
    (!shaper.broken).then_some(shaper.out)
}

/// Where in a node the loop stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    NodeStart,
    /// After the name or an entry; `key`: the last entry may be the name of a property.
    Entries {
        key: bool,
    },
    BlockEnd,
}

/// A sign that needs something after it, and where it stands.
#[derive(Clone, Copy)]
enum Waits {
    Value(usize),
    TakenOut(usize),
}

struct Shaper<'a> {
    text: &'a str,
    problems: &'a Problems,
    out: Shaped,
    /// Offsets of the `{` that are open.
    open: Vec<usize>,
    at: At,
    waits: Option<Waits>,
    /// Whether a space or a line break came just before.
    spaced: bool,
    /// An error that cannot be repaired was found.
    broken: bool,
}

impl Shaper<'_> {
    fn token(&mut self, token: &Token) {
        let span = span_of(&token.range);
        match token.kind {
            Kind::Space | Kind::Newline | Kind::Semicolon => {}
            Kind::Comment => return self.blank(&token.range),
            Kind::Annotation => {
                self.problems.add(
                    Problem::new(span, "a policy has no type annotations")
                        .hint("take the parentheses out, or quote the text they belong to"),
                );
                return self.blank(&token.range);
            }
            Kind::Word | Kind::Text if span.len() > ENTRY_BYTES_MAX => {
                let message = format!("a word of {} bytes, and {ENTRY_BYTES_MAX} are the most", span.len());
                self.fail(span, &message, "put long lists into a file of their own");
                self.at = At::Entries { key: true };
            }
            Kind::Word => return self.word(&token.range),
            Kind::Text => self.quoted(&token.range),
            Kind::Open => self.open(token.range.start),
            Kind::Close => self.close(token.range.start),
            Kind::Equals => self.equals(token.range.start),
            Kind::SlashDash => self.slash_dash(token.range.start),
            Kind::UnclosedText => self.fail(span, "this text has no closing quote", "add a `\"`"),
            Kind::UnclosedComment => {
                self.fail((span.offset(), 2), "this comment is never closed", "add `*/`");
            }
            Kind::MultiLineText => {
                self.fail((span.offset(), 3), "a text stands on one line", "use one `\"` on each side");
            }
            Kind::StrayBackslash => {
                self.fail(
                    span,
                    "`\\` joins lines and stands at the end of one",
                    "take it out, or quote the text",
                );
            }
        }
        if matches!(token.kind, Kind::Newline | Kind::Semicolon) {
            self.end_of_node();
        }
        self.spaced = matches!(token.kind, Kind::Space | Kind::Newline | Kind::Semicolon | Kind::Open);
        self.out.text.push_str(&self.text[token.range.clone()]);
    }

    fn fail(&mut self, span: impl Into<SourceSpan>, message: &str, hint: &str) {
        self.problems.add(Problem::new(span.into(), message).hint(hint));
        self.broken = true;
    }

    /// Comments reach the parser as spaces: as many bytes, and nothing to recurse into.
    fn blank(&mut self, range: &Range<usize>) {
        self.out.text.extend(std::iter::repeat_n(' ', range.len()));
        self.spaced = true;
    }

    fn word(&mut self, range: &Range<usize>) {
        let word = &self.text[range.clone()];
        let entry = KdlEntry::parse(word);
        let is_text = entry.as_ref().map_or(true, |entry| entry.value().is_string());
        match entry {
            Ok(_) => {
                self.entry(range, is_text);
                self.out.text.push_str(word);
            }
            Err(error) => {
                self.entry(range, is_text);
                self.repair(range, &error);
            }
        }
        self.spaced = false;
    }

    /// Reports a word that KDL does not know and writes what was meant.
    fn repair(&mut self, range: &Range<usize>, error: &kdl::KdlError) {
        let word = &self.text[range.clone()];
        let quoted = format!("\"{word}\"");
        let problem =
            |message: String, hint: String| Problem::new(span_of(range), message).label("not KDL").hint(hint);
        if matches!(word, "true" | "false" | "null") {
            let message = format!("`{word}` is neither a keyword nor a text");
            self.problems.add(problem(message, format!("write `#{word}`, or `{quoted}` for the text")));
            self.out.inserted.push(self.out.text.len());
            self.out.text.push('#');
            self.out.text.push_str(word);
            return;
        }
        let keyword = error.diagnostics.iter().find_map(|d| d.help.clone()).filter(|_| word.starts_with('#'));
        let hint = keyword.unwrap_or_else(|| {
            format!("write {quoted}: addresses, durations, ranges and file names are quoted")
        });
        self.problems.add(problem(format!("`{word}` must be quoted"), hint));
        self.broken |= KdlEntry::parse(&quoted).is_err();
        self.out.inserted.push(self.out.text.len());
        self.out.text.push_str(&quoted);
        self.out.inserted.push(self.out.text.len() - 1);
    }

    fn quoted(&mut self, range: &Range<usize>) {
        let text = &self.text[range.clone()];
        if let Some(bad) = ["{", "}", "/*"].into_iter().find(|bad| text.contains(bad)) {
            // Were the parser ever out of step, it would take these for structure, which recurses.
            let message = format!("a text may not contain `{bad}`");
            self.fail(span_of(range), &message, "use other words");
        } else if KdlEntry::parse(text).is_err() {
            self.fail(
                span_of(range),
                "this text is not valid KDL",
                "`\\` begins an escape; write `\\\\` for itself",
            );
        }
        self.entry(range, true);
    }

    /// A name, an argument, a property's name or its value.
    fn entry(&mut self, range: &Range<usize>, is_text: bool) {
        let waits = self.waits.take();
        let key = match (self.at, waits) {
            (At::BlockEnd, _) => {
                self.fail(span_of(range), "something follows a block", "begin a new line after `}`");
                is_text
            }
            (At::NodeStart, _) if !is_text => {
                self.fail(span_of(range), "a node begins with its name", "a number or a keyword is no name");
                false
            }
            (At::NodeStart, _) | (At::Entries { .. }, Some(Waits::Value(_))) => false,
            (At::Entries { .. }, _) if !self.spaced => {
                self.fail(span_of(range), "two values without a space", "put a space before this one");
                is_text
            }
            (At::Entries { .. }, _) => is_text,
        };
        self.at = At::Entries { key };
    }

    fn equals(&mut self, at: usize) {
        if self.at == (At::Entries { key: true }) && self.waits.is_none() {
            self.at = At::Entries { key: false };
        } else {
            self.fail((at, 1), "`=` has no property name before it", "a property is written name=value");
        }
        self.waits = Some(Waits::Value(at));
    }

    fn slash_dash(&mut self, at: usize) {
        if self.waits.is_some() || self.at == At::BlockEnd || !self.spaced {
            self.fail((at, 2), "`/-` cannot stand here", "it takes out the node, value or block after it");
        } else {
            self.waits = Some(Waits::TakenOut(at));
        }
    }

    fn open(&mut self, at: usize) {
        self.end_of_wait(matches!(self.waits, Some(Waits::TakenOut(_))));
        match self.at {
            At::NodeStart => self.fail((at, 1), "a block without a name", "write the node's name before `{`"),
            At::BlockEnd => self.fail((at, 1), "something follows a block", "begin a new line after `}`"),
            At::Entries { .. } => {}
        }
        self.open.push(at);
        self.at = At::NodeStart;
        if self.open.len() == DEPTH_MAX + 1 {
            self.fail(
                (at, 1),
                "blocks nested too deep",
                "no node of a policy needs more than two blocks in each other",
            );
        }
    }

    fn close(&mut self, at: usize) {
        self.end_of_wait(false);
        if self.open.pop().is_none() {
            self.fail((at, 1), "`}` closes nothing", "take it out, or add the `{` that it belongs to");
        }
        self.at = At::BlockEnd;
    }

    fn end_of_node(&mut self) {
        self.end_of_wait(false);
        self.at = At::NodeStart;
    }

    /// `satisfied`: what comes now is what the sign waited for.
    fn end_of_wait(&mut self, satisfied: bool) {
        match self.waits.take() {
            Some(Waits::Value(at)) => self.fail((at, 1), "`=` has no value after it", "write name=value"),
            Some(Waits::TakenOut(at)) if !satisfied => {
                self.fail(
                    (at, 2),
                    "`/-` takes out nothing",
                    "write it directly before a node, value or block",
                );
            }
            _ => {}
        }
    }
}

fn span_of(range: &Range<usize>) -> SourceSpan {
    (range.start, range.len()).into()
}

//! Splits a policy's text into tokens of KDL 2; what they mean together is [`super::shape`]'s concern.

use std::ops::Range;

/// How far the `)` of an annotation is looked for; every `(` of a line looks.
const ANNOTATION_CHARS_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    /// A comment, or a line break that `\` takes away: as good as a space.
    Comment,
    Newline,
    Semicolon,
    Open,
    Close,
    Equals,
    /// `/-`
    SlashDash,
    /// An unquoted name, number or keyword, valid or not.
    Word,
    /// A quoted or raw text on one line.
    Text,
    /// `(u8)`, or a stray parenthesis.
    Annotation,
    UnclosedText,
    UnclosedComment,
    MultiLineText,
    StrayBackslash,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub range: Range<usize>,
}

/// The tokens of a text: together they cover every byte once.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

pub(super) fn tokens(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.text[self.at..];
        let (kind, length) = token(rest)?;
        let start = self.at;
        self.at += length;
        Some(Token { kind, range: start..self.at })
    }
}

/// The first token and its length in bytes, at least 1.
fn token(rest: &str) -> Option<(Kind, usize)> {
    let first = rest.chars().next()?;
    let token = match first {
        '\n' => (Kind::Newline, 1),
        '\r' if rest.starts_with("\r\n") => (Kind::Newline, 2),
        ';' => (Kind::Semicolon, 1),
        '{' => (Kind::Open, 1),
        '}' => (Kind::Close, 1),
        '=' => (Kind::Equals, 1),
        '(' => (Kind::Annotation, annotation(rest)),
        ')' => (Kind::Annotation, 1),
        '"' => quoted(rest),
        '\\' => line_continuation(rest),
        _ if first.is_whitespace() => (Kind::Space, run(rest, is_space)),
        _ if rest.starts_with("//") => (Kind::Comment, line_end(rest)),
        _ if rest.starts_with("/*") => block_comment(rest),
        _ if rest.starts_with("/-") => (Kind::SlashDash, 2),
        '#' if rest.trim_start_matches('#').starts_with('"') => raw(rest),
        _ => (Kind::Word, word(rest)),
    };
    Some(token)
}

fn is_space(c: char) -> bool {
    c.is_whitespace() && !matches!(c, '\n' | '\r')
}

/// Length of the leading run of characters that fit; at least one character, so that a lone `\r` ends it too.
fn run(rest: &str, fits: fn(char) -> bool) -> usize {
    let first = rest.chars().next().map_or(0, char::len_utf8);
    first + rest[first..].find(|c| !fits(c)).unwrap_or(rest.len() - first)
}

/// Up to the line break, which is not part.
fn line_end(rest: &str) -> usize {
    let end = rest.find('\n').unwrap_or(rest.len());
    end - usize::from(rest[..end].ends_with('\r'))
}

fn word(rest: &str) -> usize {
    let mut end = 0;
    for c in rest.chars() {
        let comment = rest[end..].starts_with("//") || rest[end..].starts_with("/*");
        if comment || c.is_whitespace() || matches!(c, ';' | '{' | '}' | '(' | ')' | '=' | '"' | '\\') {
            break;
        }
        end += c.len_utf8();
    }
    end
}

/// To the closing parenthesis when one is near on the line.
fn annotation(rest: &str) -> usize {
    let near = rest.char_indices().take(ANNOTATION_CHARS_MAX).take_while(|(_, c)| !matches!(c, '\n' | '\r'));
    near.into_iter().find(|(_, c)| *c == ')').map_or(1, |(at, _)| at + 1)
}

fn quoted(rest: &str) -> (Kind, usize) {
    if rest.starts_with("\"\"\"") {
        return multi_line(rest, 3, "\"\"\"");
    }
    let line = &rest[..line_end(rest)];
    let mut escaped = false;
    for (at, c) in line.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return (Kind::Text, at + 1),
            _ => {}
        }
    }
    (Kind::UnclosedText, line.len())
}

fn raw(rest: &str) -> (Kind, usize) {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let close = format!("\"{}", &rest[..hashes]);
    if rest[hashes..].starts_with("\"\"\"") {
        return multi_line(rest, hashes + 3, &format!("\"\"\"{}", &rest[..hashes]));
    }
    let line = &rest[..line_end(rest)];
    match line[hashes + 1..].find(&close) {
        Some(at) => (Kind::Text, hashes + 1 + at + close.len()),
        None => (Kind::UnclosedText, line.len()),
    }
}

fn multi_line(rest: &str, open: usize, close: &str) -> (Kind, usize) {
    let end = rest[open..].find(close).map_or(rest.len(), |at| open + at + close.len());
    (Kind::MultiLineText, end)
}

/// Block comments nest.
fn block_comment(rest: &str) -> (Kind, usize) {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(next) = rest[at..].find(['*', '/']) {
        at += next;
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (Kind::Comment, at);
            }
        } else {
            at += 1;
        }
    }
    (Kind::UnclosedComment, rest.len())
}

/// `\`, spaces, perhaps a comment, and the line break that all of it takes away.
fn line_continuation(rest: &str) -> (Kind, usize) {
    let after = rest[1..].trim_start_matches(is_space);
    let comment = if after.starts_with("//") { line_end(after) } else { 0 };
    let start = rest.len() - after.len() + comment;
    match &rest[start..] {
        "" => (Kind::Comment, start),
        end if end.starts_with('\n') => (Kind::Comment, start + 1),
        end if end.starts_with("\r\n") => (Kind::Comment, start + 2),
        _ => (Kind::StrayBackslash, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        tokens(text).filter(|t| t.kind != Kind::Space).map(|t| (t.kind, &text[t.range])).collect()
    }

    #[test]
    fn a_node_splits_into_words_texts_and_signs() {
        assert_eq!(
            kinds("a 10.0.0.0/8 to=\"x\\\"y\" {b; }// c\r\n"),
            [
                (Kind::Word, "a"),
                (Kind::Word, "10.0.0.0/8"),
                (Kind::Word, "to"),
                (Kind::Equals, "="),
                (Kind::Text, "\"x\\\"y\""),
                (Kind::Open, "{"),
                (Kind::Word, "b"),
                (Kind::Semicolon, ";"),
                (Kind::Close, "}"),
                (Kind::Comment, "// c"),
                (Kind::Newline, "\r\n"),
            ]
        );
    }

    #[test]
    fn comments_nest_and_a_backslash_takes_the_line_break() {
        assert_eq!(
            kinds("/* a /* b */ * / */x"),
            [(Kind::Comment, "/* a /* b */ * / */"), (Kind::Word, "x")]
        );
        assert_eq!(kinds("\\ // c\nx"), [(Kind::Comment, "\\ // c\n"), (Kind::Word, "x")]);
        assert_eq!(kinds("\\ x")[0].0, Kind::StrayBackslash);
        assert_eq!(kinds("/* /* */")[0].0, Kind::UnclosedComment);
        assert_eq!(kinds("/*/")[0].0, Kind::UnclosedComment);
    }

    #[test]
    fn texts_end_on_their_line() {
        assert_eq!(kinds("#\"a\"b\"# #true"), [(Kind::Text, "#\"a\"b\"#"), (Kind::Word, "#true")]);
        assert_eq!(kinds("\"a\nb\"")[0], (Kind::UnclosedText, "\"a"));
        assert_eq!(kinds("\"\"\"\na\n\"\"\" b")[0], (Kind::MultiLineText, "\"\"\"\na\n\"\"\""));
    }

    #[test]
    fn every_byte_belongs_to_one_token() {
        let text = "\u{2003}é\r(\\\"\\";
        let mut at = 0;
        for token in tokens(text) {
            assert_eq!(token.range.start, at);
            assert!(token.range.end > at);
            at = token.range.end;
        }
        assert_eq!(at, text.len());
    }
}

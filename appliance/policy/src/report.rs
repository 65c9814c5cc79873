//! What is wrong with a policy, where, and what to do about it.
//!
//! A [`Problem`] points into the file by byte spans; a [`Report`] holds every problem of one run in file
//! order and shows them: with the marked source for people, one line each for logs, or as JSON.

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Problems shown of one report; the rest are counted.
const SHOWN_MAX: usize = 50;
/// Source lines of a mark that together are longer than this are not quoted: the place alone is given.
const QUOTED_LINES_BYTES_MAX: usize = 1_000;
/// Columns that messages and hints are wrapped to.
const WRAP_COLUMNS: usize = 110;

/// A policy file's name and text, with an index of its lines.
#[derive(Debug, Clone)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Byte offset at which each line begins; the first is 0.
    line_starts: Arc<[usize]>,
}

/// A place in a file; both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { name: name.into(), text: text.into(), line_starts: starts.collect() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line on which a span begins, counted from 1.
    pub fn line_of(&self, span: SourceSpan) -> u32 {
        self.line_starts.partition_point(|start| *start <= span.offset()) as u32
    }

    /// Where a byte offset lies; past the end it is the end.
    pub fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.line_starts[line - 1]..offset).unwrap_or_default();
        Place { line: line as u32, column: before.chars().count() as u32 + 1 }
    }

    /// The whole lines that a span touches, without the last line break.
    fn lines(&self, span: SourceSpan) -> Range<usize> {
        let last = (span.offset() + span.len().saturating_sub(1)).max(span.offset());
        let start = self.line_starts[self.line_starts.partition_point(|start| *start <= span.offset()) - 1];
        let after = self.line_starts.get(self.line_starts.partition_point(|start| *start <= last));
        let end = after.map_or(self.text.len(), |after| after - 1);
        start..end.max(start)
    }
}

/// Quotes whole lines and none around them; `miette`'s own sources cut the line at the span, or show its neighbours.
impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        if span.offset() + span.len() > self.text.len() {
            return Err(MietteError::OutOfBounds);
        }
        let lines = self.lines(*span);
        let text = &self.text.as_bytes()[lines.clone()];
        let line = self.line_of((lines.start, 0).into()) as usize - 1;
        let count = self.line_of((lines.end, 0).into()) as usize - line;
        let whole = SourceSpan::from((lines.start, lines.len()));
        // Without context `miette` asks for the place in its headline, with it for the lines themselves.
        let column = if lines_before == 0 { self.place(span.offset()).column as usize - 1 } else { 0 };
        let contents = MietteSpanContents::new_named(self.name.to_string(), text, whole, line, column, count);
        Ok(Box::new(contents))
    }
}

/// One thing that is wrong, with the spans that show it.
#[derive(Debug, Clone)]
pub struct Problem {
    message: String,
    span: SourceSpan,
    label: String,
    /// Other places that belong to it, such as the first of two equal names.
    related: Vec<(SourceSpan, String)>,
    hint: Option<String>,
}

impl Problem {
    /// `span` is the place to mark; [`Self::label`] puts words beside it.
    pub fn new(span: SourceSpan, message: impl Into<String>) -> Self {
        Self {
            message: printable(message.into()),
            span,
            label: String::from("here"),
            related: Vec::new(),
            hint: None,
        }
    }

    /// The words at the mark, `here` when not given.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = printable(label.into());
        self
    }

    /// Marks another place that belongs to this problem.
    #[must_use]
    pub fn related(mut self, span: SourceSpan, label: impl Into<String>) -> Self {
        self.related.push((span, printable(label.into())));
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(printable(hint.into()));
        self
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn span(&self) -> SourceSpan {
        self.span
    }

    /// Moves every span, such as back from a repaired text to the one that was read.
    pub(crate) fn map_spans(mut self, map: impl Fn(SourceSpan) -> SourceSpan) -> Self {
        self.span = map(self.span);
        for (span, _) in &mut self.related {
            *span = map(*span);
        }
        self
    }
}

/// Messages repeat words of the file; none of them may steer a terminal or begin a log line.
fn printable(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

/// How a report is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Terminal colours.
    Colour,
    Plain,
}

/// Every problem of one run, in file order.
#[derive(Debug, Clone)]
pub struct Report {
    source: Source,
    problems: Vec<Problem>,
    omitted: usize,
}

impl Report {
    /// `problems` in any order.
    pub fn new(source: Source, problems: Vec<Problem>) -> Self {
        Self::with_omitted(source, problems, 0)
    }

    /// `omitted` problems were counted by their finder and not kept.
    pub(crate) fn with_omitted(source: Source, mut problems: Vec<Problem>, omitted: usize) -> Self {
        problems.sort_by_key(|problem| (problem.span.offset(), problem.span.len()));
        let surplus = problems.len().saturating_sub(SHOWN_MAX);
        problems.truncate(SHOWN_MAX);
        Self { source, problems, omitted: omitted + surplus }
    }

    /// Problems found, those not shown included.
    pub fn count(&self) -> usize {
        self.problems.len() + self.omitted
    }

    /// The problems shown.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Each problem with its marked source lines and hint, for people.
    pub fn render(&self, theme: Theme) -> String {
        let theme = match theme {
            Theme::Colour => GraphicalTheme::unicode(),
            Theme::Plain => GraphicalTheme::unicode_nocolor(),
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(WRAP_COLUMNS)
            .with_context_lines(1)
            .without_syntax_highlighting()
            .with_links(false);
        let mut out = String::new();
        for problem in &self.problems {
            let shown = Shown { problem, report: self };
            if handler.render_report(&mut out, &shown).is_err() {
                // The handler fails on spans outside the source, which come from another file's policy.
                out.push_str(&self.line(problem));
                out.push('\n');
            }
        }
        out.push_str(&self.ending());
        out
    }

    fn line(&self, problem: &Problem) -> String {
        let Place { line, column } = self.source.place(problem.span.offset());
        let Problem { message, hint, .. } = problem;
        match hint {
            Some(hint) => format!("{}:{line}:{column}: {message} ({hint})", self.source.name),
            None => format!("{}:{line}:{column}: {message}", self.source.name),
        }
    }

    fn entry<'a>(&self, problem: &'a Problem) -> Entry<'a> {
        let mark = |span: SourceSpan, label: &'a str| {
            let Place { line, column } = self.source.place(span.offset());
            Mark { line, column, length: span.len(), label }
        };
        Entry {
            message: &problem.message,
            mark: mark(problem.span, &problem.label),
            hint: problem.hint.as_deref(),
            related: problem.related.iter().map(|(span, label)| mark(*span, label)).collect(),
        }
    }

    fn ending(&self) -> String {
        match self.omitted {
            0 => String::new(),
            more => format!("… and {more} more\n"),
        }
    }

    /// A problem is quoted unless one of its lines would flood the screen.
    fn quotes(&self, problem: &Problem) -> bool {
        let mut spans = std::iter::once(problem.span).chain(problem.related.iter().map(|(span, _)| *span));
        !self.source.text.is_empty()
            && spans.all(|span| self.source.lines(span).len() <= QUOTED_LINES_BYTES_MAX)
    }
}

/// One line a problem, `file:line:column: message (hint)`, for logs.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}", self.line(problem))?;
        }
        f.write_str(&self.ending())
    }
}

impl std::error::Error for Report {}

/// One problem as JSON shows it.
#[derive(Serialize)]
struct Entry<'a> {
    message: &'a str,
    #[serde(flatten)]
    mark: Mark<'a>,
    hint: Option<&'a str>,
    related: Vec<Mark<'a>>,
}

#[derive(Serialize)]
struct Mark<'a> {
    line: u32,
    column: u32,
    /// In bytes.
    length: usize,
    label: &'a str,
}

/// `{"file", "count", "problems": [{"message", "line", "column", "length", "label", "hint", "related"}]}`
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            file: &'a str,
            count: usize,
            problems: Vec<Entry<'a>>,
        }
        let problems = self.problems.iter().map(|problem| self.entry(problem));
        Whole { file: &self.source.name, count: self.count(), problems: problems.collect() }
            .serialize(serializer)
    }
}

/// A problem as `miette` draws it.
struct Shown<'a> {
    problem: &'a Problem,
    report: &'a Report,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.problem, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.report.quotes(self.problem) {
            return f.write_str(&self.problem.message);
        }
        let Place { line, column } = self.report.source.place(self.problem.span.offset());
        write!(f, "{}:{line}:{column}: {}", self.report.source.name, self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.report.quotes(self.problem).then_some(&self.report.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if !self.report.quotes(self.problem) {
            return None;
        }
        let own = LabeledSpan::new_primary_with_span(Some(self.problem.label.clone()), self.problem.span);
        let related = self.problem.related.iter();
        let related = related.map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), *span));
        Some(Box::new(std::iter::once(own).chain(related)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(problems: Vec<Problem>) -> Report {
        Report::new(Source::new("p.kdl", "zone a\r\nzönè b\n"), problems)
    }

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let source = Source::new("p.kdl", "a\nzönè b\n");
        assert_eq!(source.place(0), Place { line: 1, column: 1 });
        assert_eq!(source.place(9), Place { line: 2, column: 6 });
        assert_eq!(source.place(1_000), Place { line: 3, column: 1 });
        assert_eq!(source.line_of((2, 1).into()), 2);
    }

    #[test]
    fn problems_come_in_file_order_with_place_and_hint() {
        let report = report(vec![
            Problem::new((8, 6).into(), "second").hint("do that"),
            Problem::new((0, 4).into(), "first"),
        ]);
        assert_eq!(report.to_string(), "p.kdl:1:1: first\np.kdl:2:1: second (do that)\n");
        let shown = report.render(Theme::Plain);
        assert!(
            shown.contains("zönè b") && shown.contains("p.kdl:2:1") && shown.contains("do that"),
            "{shown}"
        );
        assert!(report.render(Theme::Colour).contains("\u{1b}["));
    }

    #[test]
    fn only_so_many_problems_are_shown_and_the_rest_are_counted() {
        let report = report((0..SHOWN_MAX + 3).map(|_| Problem::new((0, 1).into(), "x")).collect());
        assert_eq!(report.problems().len(), SHOWN_MAX);
        assert_eq!(report.count(), SHOWN_MAX + 3);
        assert!(report.to_string().ends_with("… and 3 more\n"));
    }

    #[test]
    fn a_long_line_is_not_quoted() {
        let text = "x".repeat(QUOTED_LINES_BYTES_MAX + 1);
        let report = Report::new(Source::new("p.kdl", &text), vec![Problem::new((5, 1).into(), "odd")]);
        let shown = report.render(Theme::Plain);
        assert!(shown.contains("p.kdl:1:6: odd") && shown.len() < 100, "{shown}");
    }
}

//! Taking a KDL node apart so that nothing of it is left over.
//!
//! A decoder asks [`Fields`] for the arguments, properties and children it knows. Whatever it did not ask
//! for is reported when the `Fields` go out of scope: an unknown property, one argument too many, a block
//! where none belongs. Missing and malformed values are reported as they are asked for, and decoding goes on.

use super::problems::Problems;
use super::suggest::did_you_mean;
use crate::model::Spanned;
use crate::report::Problem;
use kdl::{KdlEntry, KdlNode, KdlValue};
use miette::SourceSpan;

/// One value of a node, with words for messages.
pub(super) struct Scalar<'a> {
    pub value: &'a KdlValue,
    /// The value alone, without a property's name.
    pub span: SourceSpan,
    /// "`tcp=`" or "`threshold`".
    what: String,
}

impl Scalar<'_> {
    /// "`tcp=` takes `wanted`, not `70000`."
    pub fn wrong(&self, wanted: &str) -> Problem {
        let found = match self.value {
            KdlValue::String(text) => format!("\"{text}\""),
            other => other.to_string(),
        };
        Problem::new(self.span, format!("{} takes {wanted}, not {found}", self.what))
    }

    /// A problem at this value.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.span, message)
    }

    pub fn text(&self, wanted: &str) -> Result<&str, Problem> {
        self.value.as_string().ok_or_else(|| self.wrong(wanted))
    }
}

/// What a node holds, and what of it was not asked for yet.
pub(super) struct Fields<'a> {
    node: &'a KdlNode,
    problems: &'a Problems,
    arguments: std::collections::VecDeque<&'a KdlEntry>,
    properties: Vec<&'a KdlEntry>,
    /// Names of the properties that were asked for.
    known: Vec<&'static str>,
    children_known: bool,
}

impl<'a> Fields<'a> {
    pub fn new(node: &'a KdlNode, problems: &'a Problems) -> Self {
        let mut properties: Vec<&KdlEntry> = Vec::new();
        for entry in node.entries().iter().filter(|entry| entry.name().is_some()) {
            match properties.iter().find(|first| first.name() == entry.name()) {
                Some(first) => problems.add(
                    Problem::new(entry.span(), format!("`{}=` is given twice", key(entry)))
                        .label("second")
                        .related(first.span(), "first")
                        .hint("take one of them out"),
                ),
                None => properties.push(entry),
            }
        }
        let arguments = node.entries().iter().filter(|entry| entry.name().is_none()).collect();
        Self { node, problems, arguments, properties, known: Vec::new(), children_known: false }
    }

    /// The node from its name to its last value, without its block.
    pub fn span(&self) -> SourceSpan {
        head(self.node)
    }

    pub fn name(&self) -> &'a str {
        self.node.name().value()
    }

    /// The next argument, if there is one.
    pub fn argument<T>(&mut self, read: impl Fn(&Scalar<'_>) -> Result<T, Problem>) -> Option<Spanned<T>> {
        let entry = self.arguments.pop_front()?;
        self.read(entry, format!("`{}`", self.name()), read)
    }

    /// The next argument; that there is none is a problem.
    pub fn required_argument<T>(
        &mut self,
        wanted: &str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        if self.arguments.is_empty() {
            self.missing(wanted);
        }
        self.argument(read)
    }

    /// All arguments that are left.
    pub fn arguments<T>(&mut self, read: impl Fn(&Scalar<'_>) -> Result<T, Problem>) -> Vec<Spanned<T>> {
        let count = self.arguments.len();
        (0..count).filter_map(|_| self.argument(&read)).collect()
    }

    /// All arguments that are left; that there is none is a problem.
    pub fn required_arguments<T>(
        &mut self,
        wanted: &str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Problem>,
    ) -> Vec<Spanned<T>> {
        if self.arguments.is_empty() {
            self.missing(wanted);
        }
        self.arguments(read)
    }

    /// Arguments not taken yet.
    pub fn argument_count(&self) -> usize {
        self.arguments.len()
    }

    /// For a node whose kind is unknown, so that nothing can be said about the rest of it.
    pub fn ignore_rest(&mut self) {
        self.arguments.clear();
        self.properties.clear();
        self.children_known = true;
    }

    pub fn has(&self, name: &str) -> bool {
        self.properties.iter().any(|entry| key(entry) == name)
    }

    pub fn property<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        self.known.push(name);
        let entry = self.properties.iter().copied().find(|entry| key(entry) == name)?;
        self.read(entry, format!("`{name}=`"), read)
    }

    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        if !self.has(name) {
            self.missing(&format!("`{name}=`"));
        }
        self.property(name, read)
    }

    /// The nodes of the block; any of another name is a problem.
    pub fn children(&mut self, known: &[&'static str]) -> Children<'a> {
        self.children_known = true;
        let nodes = self.node.children().map_or(&[][..], |block| block.nodes());
        known_nodes(nodes, known, &format!("in `{}`", self.name()), self.problems)
    }

    fn missing(&self, wanted: &str) {
        self.problems.add(
            Problem::new(self.span(), format!("`{}` needs {wanted}", self.name()))
                .hint("docs/policy.md shows each node with an example"),
        );
    }

    fn read<T>(
        &self,
        entry: &'a KdlEntry,
        what: String,
        read: impl Fn(&Scalar<'_>) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        let scalar = Scalar { value: entry.value(), span: value_span(entry), what };
        self.problems.ok(read(&scalar)).map(|value| Spanned { value, span: scalar.span })
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        let name = self.name();
        let knows = || {
            if self.known.is_empty() {
                return String::from("take it out");
            }
            format!("`{name}` knows {}", list(self.known.iter().map(|name| format!("`{name}=`"))))
        };
        for entry in &self.arguments {
            let message = format!("`{name}` has no place for {}", entry.value());
            self.problems.add(Problem::new(entry.span(), message).hint(knows()));
        }
        for entry in self.properties.iter().filter(|entry| !self.known.contains(&key(entry))) {
            let message = format!("`{name}` has no property `{}`", key(entry));
            let hint = did_you_mean(key(entry), &self.known).unwrap_or_else(knows);
            self.problems.add(Problem::new(entry.span(), message).hint(hint));
        }
        if let Some(block) = self.node.children().filter(|_| !self.children_known) {
            let span = block.nodes().first().map_or(self.span(), head);
            self.problems
                .add(Problem::new(span, format!("`{name}` has no block")).hint("take the braces out"));
        }
    }
}

/// The nodes of one block, all of known names, in file order.
pub(super) struct Children<'a> {
    nodes: Vec<&'a KdlNode>,
    problems: &'a Problems,
}

/// Reports nodes of unknown name; `place` is such as "in `nat`".
pub(super) fn known_nodes<'a>(
    nodes: &'a [KdlNode],
    known: &[&'static str],
    place: &str,
    problems: &'a Problems,
) -> Children<'a> {
    let is_known = |node: &&KdlNode| {
        let name = node.name().value();
        if !known.contains(&name) {
            let message = format!("there is no `{name}` {place}");
            let hint = did_you_mean(name, known).unwrap_or_else(|| {
                format!("known here: {}", list(known.iter().map(|name| format!("`{name}`"))))
            });
            problems.add(Problem::new(node.name().span(), message).label("unknown node").hint(hint));
        }
        known.contains(&name)
    };
    Children { nodes: nodes.iter().filter(is_known).collect(), problems }
}

impl<'a> Children<'a> {
    pub fn all(&self) -> impl Iterator<Item = &'a KdlNode> + '_ {
        self.nodes.iter().copied()
    }

    pub fn many(&self, name: &'static str) -> impl Iterator<Item = &'a KdlNode> + '_ {
        self.all().filter(move |node| node.name().value() == name)
    }

    /// The node of that name; a second one is a problem.
    pub fn one(&self, name: &'static str) -> Option<&'a KdlNode> {
        let mut nodes = self.many(name);
        let first = nodes.next()?;
        for second in nodes {
            self.problems.add(
                Problem::new(head(second), format!("`{name}` may stand here only once"))
                    .label("second")
                    .related(head(first), "first")
                    .hint("join them into one"),
            );
        }
        Some(first)
    }

    /// The one value of the node of that name, if there is such a node.
    pub fn value<T>(
        &self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(&Scalar<'_>) -> Result<T, Problem>,
    ) -> Option<Spanned<T>> {
        Fields::new(self.one(name)?, self.problems).required_argument(wanted, read)
    }
}

/// A node from its name to its last value, without its block.
pub(super) fn head(node: &KdlNode) -> SourceSpan {
    let name = node.name().span();
    let end = node.entries().last().map_or(name, KdlEntry::span);
    (name.offset(), end.offset() + end.len() - name.offset()).into()
}

/// "a, b and c".
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    let mut items: Vec<String> = items.into_iter().collect();
    match items.pop() {
        Some(last) if !items.is_empty() => format!("{} and {last}", items.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn key(entry: &KdlEntry) -> &str {
    entry.name().map_or("", |name| name.value())
}

/// A property's entry spans its name as well; its value is what the entry ends with.
fn value_span(entry: &KdlEntry) -> SourceSpan {
    let whole = entry.span();
    let length = entry.format().map_or(whole.len(), |format| format.value_repr.len().min(whole.len()));
    (whole.offset() + whole.len() - length, length).into()
}

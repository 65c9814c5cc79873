//! What only the host can tell to be wrong with a policy, and what is merely worth knowing.

use crate::Problem;
use glacis_plan::nft::NameError;
use miette::SourceSpan;
use std::fmt;

/// Why a policy cannot be compiled for this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("interfaces `{first}` and `{second}` are both the device {device}")]
    SameDevice { first: String, second: String, device: String, first_span: SourceSpan, span: SourceSpan },
    #[error("interface `{interface}` fits several devices: {}", devices.join(", "))]
    Ambiguous { interface: String, devices: Vec<String>, span: SourceSpan },
    #[error("`{device}` is too long for a device: {} bytes, {max} at most", device.len())]
    DeviceName { device: String, max: usize, span: SourceSpan },
    #[error("the {what} `{name}` is not declared")]
    Undeclared { what: &'static str, name: String, span: SourceSpan },
    #[error("{cause}")]
    Name { cause: NameError, span: SourceSpan },
    #[error("the id `{id}` is too long: {} bytes, {max} at most", id.len())]
    LongId { id: String, max: usize, span: SourceSpan },
    #[error("{why}")]
    Ineffective { why: &'static str, hint: &'static str, span: SourceSpan },
    #[error("blocklist `{list}`: {}", cause)]
    List { list: String, cause: ListError, span: SourceSpan },
}

/// What is wrong with a blocklist's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("cannot read {file}: {reason}")]
    Absent { file: String, reason: String },
    #[error("{file} line {line}: `{text}` {reason}")]
    Line { file: String, line: usize, text: String, reason: &'static str },
    #[error("{file}: {more} more lines are wrong")]
    MoreLines { file: String, more: usize },
    #[error("{file} has more than {max} entries")]
    TooLong { file: String, max: usize },
}

impl CompileError {
    /// The place in the policy.
    pub const fn span(&self) -> SourceSpan {
        match self {
            Self::SameDevice { span, .. }
            | Self::Ambiguous { span, .. }
            | Self::DeviceName { span, .. }
            | Self::Undeclared { span, .. }
            | Self::Name { span, .. }
            | Self::LongId { span, .. }
            | Self::Ineffective { span, .. }
            | Self::List { span, .. } => *span,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::SameDevice { .. } => "name each device once, or remove one of the two".to_owned(),
            Self::Ambiguous { devices, .. } => {
                format!("match one of them by name: match name=\"{}\"", devices.first().map_or("", |d| d))
            }
            Self::DeviceName { .. } | Self::Name { .. } | Self::LongId { .. } => {
                "choose a shorter, plainer name".to_owned()
            }
            Self::Undeclared { what, .. } => format!("declare the {what}, or correct its name"),
            Self::Ineffective { hint, .. } => (*hint).to_owned(),
            Self::List { cause, .. } => cause.hint(),
        }
    }

    /// As it is shown beside the source, like an error of the parser.
    pub fn problem(&self) -> Problem {
        let problem = Problem::new(self.span(), self.to_string()).hint(self.hint());
        match self {
            Self::SameDevice { device, first_span, .. } => {
                problem.label(format!("{device} again")).related(*first_span, format!("{device} first"))
            }
            _ => problem,
        }
    }
}

impl ListError {
    fn hint(&self) -> String {
        match self {
            Self::Absent { file, .. } => {
                format!("create {file} beside the policy, empty if need be, or remove the blocklist")
            }
            Self::Line { .. } | Self::MoreLines { .. } => {
                "one address, CIDR or `first-last` a line; `#` and `;` start a comment".to_owned()
            }
            Self::TooLong { .. } => {
                "split the list, or merge neighbouring addresses into prefixes".to_owned()
            }
        }
    }
}

/// Something that compiles and may yet surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Its zone has one device fewer until it appears.
    InterfaceAbsent {
        interface: String,
        span: SourceSpan,
    },
    ListEmpty {
        list: String,
        span: SourceSpan,
    },
    /// A listed range covers an address of a network of ours, which is then cut off.
    ListCoversOwn {
        list: String,
        network: String,
        interface: String,
        span: SourceSpan,
    },
    /// A rule lets so many sources administrate that auto-block spares a large part of the Internet.
    AdminsMany {
        network: String,
        span: SourceSpan,
    },
}

impl Warning {
    pub const fn span(&self) -> SourceSpan {
        match self {
            Self::InterfaceAbsent { span, .. }
            | Self::ListEmpty { span, .. }
            | Self::ListCoversOwn { span, .. }
            | Self::AdminsMany { span, .. } => *span,
        }
    }

    pub fn problem(&self) -> Problem {
        Problem::new(self.span(), self.to_string())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InterfaceAbsent { interface, .. } => {
                write!(f, "interface `{interface}` is not present; its rules wait until it appears")
            }
            Self::ListEmpty { list, .. } => write!(f, "blocklist `{list}` has no entry"),
            Self::ListCoversOwn { list, network, interface, .. } => {
                write!(f, "blocklist `{list}` covers {network}, the network of interface `{interface}`")
            }
            Self::AdminsMany { network, .. } => {
                write!(f, "nobody in {network} is ever auto-blocked: this rule lets them administrate")
            }
        }
    }
}

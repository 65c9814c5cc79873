//! The names a file declares, gathered before anything refers to them, so that order does not matter.

use super::decode::{Scalar, list};
use super::problems::Problems;
use super::suggest::did_you_mean;
use crate::model::{Door, Spanned, ZoneRef};
use crate::report::Problem;
use kdl::KdlNode;
use miette::SourceSpan;
use std::collections::BTreeMap;

/// The zone that every policy has: the host itself.
pub(super) const SELF: &str = "self";
/// Names listed in a hint when none is near.
const LISTED_MAX: usize = 8;

pub(super) struct Names {
    pub interfaces: Declared,
    pub zones: Declared,
    pub sets: Declared,
    pub services: Declared,
    pub blocklists: Declared,
    pub gates: Declared,
}

/// Names of one kind and where each was first given.
pub(super) struct Declared {
    kind: &'static str,
    places: BTreeMap<String, SourceSpan>,
}

impl Names {
    pub fn of(nodes: &[KdlNode]) -> Self {
        let declared = |kind: &'static str| {
            let mut places = BTreeMap::new();
            for node in nodes.iter().filter(|node| node.name().value() == kind) {
                let first = node.entries().iter().find(|entry| entry.name().is_none());
                if let Some((entry, name)) = first.and_then(|entry| Some((entry, entry.value().as_string()?)))
                {
                    places.entry(name.to_owned()).or_insert(entry.span());
                }
            }
            Declared { kind, places }
        };
        Self {
            interfaces: declared("interface"),
            zones: declared("zone"),
            sets: declared("set"),
            services: declared("service"),
            blocklists: declared("blocklist"),
            gates: declared("reverse-scan"),
        }
    }

    /// A named zone or the host itself.
    pub fn zone_or_self(&self, scalar: &Scalar<'_>) -> Result<ZoneRef, Problem> {
        if scalar.value.as_string() == Some(SELF) {
            return Ok(ZoneRef::SelfHost);
        }
        self.zones.refer(scalar).map(ZoneRef::Zone)
    }

    /// A zone, or an interface by a name that no zone has.
    pub fn door(&self, scalar: &Scalar<'_>) -> Result<Door, Problem> {
        let name = scalar.text("the name of a zone or an interface")?;
        if self.zones.contains(name) {
            return Ok(Door::Zone(name.to_owned()));
        }
        if self.interfaces.contains(name) {
            return Ok(Door::Interface(name.to_owned()));
        }
        let known: Vec<&String> = self.zones.places.keys().chain(self.interfaces.places.keys()).collect();
        let hint = did_you_mean(name, &known).unwrap_or_else(|| self.zones.hint(name));
        Err(scalar.problem(format!("there is no zone or interface `{name}`")).hint(hint))
    }
}

impl Declared {
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A name that was declared.
    pub fn refer(&self, scalar: &Scalar<'_>) -> Result<String, Problem> {
        let name =
            scalar.text(&format!("the name of a {}", self.kind).replace("a interface", "an interface"))?;
        if self.places.contains_key(name) {
            return Ok(name.to_owned());
        }
        Err(scalar.problem(format!("there is no {} `{name}`", self.kind)).hint(self.hint(name)))
    }

    /// Which of the declared names was meant, or which there are.
    pub fn hint(&self, name: &str) -> String {
        let known: Vec<&str> = self.places.keys().map(String::as_str).collect();
        did_you_mean(name, &known).unwrap_or_else(|| match known.len() {
            0 => format!("declare it: `{} {name} {{ … }}`", self.kind),
            1..=LISTED_MAX => format!("declared are {}", list(known.iter().map(|name| format!("`{name}`")))),
            more => format!("{more} are declared, none of them like this"),
        })
    }

    /// Reports a name that another node of the kind has already.
    pub fn check_first(&self, name: &Spanned<String>, problems: &Problems) {
        if let Some(first) = self.places.get(&name.value).filter(|first| **first != name.span) {
            problems.add(
                Problem::new(name.span, format!("there are two `{} {}`", self.kind, name.value))
                    .label("second")
                    .related(*first, "first")
                    .hint("rename one, or join them"),
            );
        }
    }
}

//! Where every stage of the parser puts what it finds wrong, and goes on.

use crate::report::Problem;
use miette::SourceSpan;
use std::cell::{Cell, RefCell};

/// Problems kept of one file; more are only counted.
const KEPT_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Problems {
    found: RefCell<Vec<Problem>>,
    omitted: Cell<usize>,
}

impl Problems {
    pub fn add(&self, problem: Problem) {
        let mut found = self.found.borrow_mut();
        if found.len() < KEPT_MAX {
            found.push(problem);
        } else {
            self.omitted.set(self.omitted.get() + 1);
        }
    }

    /// The value, or `None` with the problem noted.
    pub fn ok<T>(&self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Whether a problem was found within a span.
    pub fn touch(&self, span: SourceSpan) -> bool {
        let within = |at: usize| (span.offset()..span.offset() + span.len()).contains(&at);
        self.found.borrow().iter().any(|problem| within(problem.span().offset()))
    }

    /// What was found, and how many more there were.
    pub fn take(self) -> (Vec<Problem>, usize) {
        (self.found.into_inner(), self.omitted.get())
    }
}

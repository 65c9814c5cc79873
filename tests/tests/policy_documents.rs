//! The shipped policy and every example of the language reference are parsed.

use glacis_policy::{Theme, parse};

const REFERENCE: &str = include_str!("../../docs/policy.md");
const SHIPPED: &str = include_str!("../../policy.kdl");

/// A fenced block of the reference: the line it begins on, the words after `kdl`, and its text.
struct Example {
    line: usize,
    marks: Vec<&'static str>,
    text: String,
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = REFERENCE.lines().enumerate();
    while let Some((at, fence)) = lines.next() {
        let Some(marks) = fence.strip_prefix("```kdl") else { continue };
        let text: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        examples.push(Example {
            line: at + 1,
            marks: marks.split_whitespace().collect(),
            text: text.join("\n"),
        });
    }
    examples
}

#[test]
fn the_shipped_policy_has_no_error() {
    let policy =
        parse("policy.kdl", SHIPPED.as_bytes()).unwrap_or_else(|r| panic!("{}", r.render(Theme::Plain)));
    assert_eq!(policy.name, "edge-1");
    assert_eq!(policy.expects.len(), 7);
    let mail = policy
        .rules
        .iter()
        .flat_map(|block| &block.rules)
        .find(|rule| rule.id.as_ref().is_some_and(|id| id.value == "no-direct-mail"));
    let written = SHIPPED.lines().position(|line| line.contains("no-direct-mail")).unwrap();
    assert_eq!(mail.unwrap().line as usize, written + 1);
}

#[test]
fn every_example_of_the_reference_is_what_it_says() {
    let examples = examples();
    assert!(examples.len() > 10, "the reference has lost its examples");
    let prelude =
        examples.iter().find(|example| example.marks == ["prelude"]).expect("the reference has a prelude");
    for example in &examples {
        let is_fragment = example.marks.contains(&"fragment");
        let text =
            if is_fragment { format!("{}\n{}", prelude.text, example.text) } else { example.text.clone() };
        let result = parse(&format!("docs/policy.md:{}", example.line), text.as_bytes());
        match result {
            Ok(_) => {
                assert!(
                    !example.marks.contains(&"must-fail"),
                    "the example at {} has no error",
                    example.line
                );
            }
            Err(report) => assert!(example.marks.contains(&"must-fail"), "{}", report.render(Theme::Plain)),
        }
    }
}

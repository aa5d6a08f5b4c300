//! Every key of a result is explained to whoever reads the result: perf/METHODOLOGY.md names it.

use tests::source::root;

/// Structures whose fields are keys of `result.json` with figures in them.
const FIGURES: &[(&str, &str)] = &[
    ("bench-harness/src/failover.rs", "Impact"),
    ("bench-harness/src/result.rs", "Figures"),
    ("loadgen/src/correlate.rs", "Accounts"),
];

/// The public fields of the structure `name`, in a formatted source.
fn fields<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let (_, body) = text.split_once(&format!("pub struct {name} {{\n")).expect("the structure is there");
    let lines = body.lines().take_while(|line| *line != "}");
    lines.filter_map(|line| line.strip_prefix("    pub ")?.split(':').next()).collect()
}

#[test]
fn every_figure_of_a_result_is_defined() {
    let text = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let defined = text("perf/METHODOLOGY.md");
    let mut missing = Vec::new();
    for (file, structure) in FIGURES {
        let text = text(file);
        let keys = fields(&text, structure);
        assert!(keys.len() > 10, "{structure} is read: {keys:?}");
        missing.extend(keys.into_iter().filter(|key| !defined.contains(&format!("`{key}`"))).map(str::to_owned));
    }
    assert!(missing.is_empty(), "perf/METHODOLOGY.md does not say what these are: {missing:?}");
}

#[test]
fn fields_are_read_right() {
    let text = "pub struct Other {\n    pub c: u8,\n}\npub struct A {\n    /// One.\n    pub a_b: u8,\n    d: u8,\n}\n";
    assert_eq!(fields(text, "A"), ["a_b"]);
}

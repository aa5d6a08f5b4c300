//! What may enter the build: licences that `deny.toml` allows, and the registry alone (S-045). A small check that needs
//! nothing installed; `cargo deny`, where it is, looks closer.

use serde_json::Value;
use std::process::Command;
use tests::source::root;

/// Crates in the lock file, all platforms. Raise it on purpose, in the commit that brings the crate (S-045).
const CRATES_MAX: usize = 400;

/// The strings of the list `allow = [...]` in `[licenses]` of `deny.toml`.
fn allowed() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let section = text.split("[licenses]").nth(1).expect("a section of licences");
    let list = section.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("a list");
    list.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next().map(str::to_owned)).collect()
}

/// Whether the licence expression can be met by what is allowed. Knows AND, OR, WITH, brackets and the old slash.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> =
        expression.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_owned).collect();
    let mut at = 0;
    let met = any_of(&tokens, &mut at, allowed);
    met && at == tokens.len()
}

fn any_of(tokens: &[String], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = all_of(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        met |= all_of(tokens, at, allowed);
    }
    met
}

fn all_of(tokens: &[String], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one_of(tokens, at, allowed);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        met &= one_of(tokens, at, allowed);
    }
    met
}

fn one_of(tokens: &[String], at: &mut usize, allowed: &[String]) -> bool {
    let Some(first) = tokens.get(*at) else { return false };
    *at += 1;
    if first == "(" {
        let met = any_of(tokens, at, allowed);
        *at += 1;
        return met;
    }
    let mut name = first.clone();
    if tokens.get(*at).is_some_and(|token| token == "WITH") {
        name = format!("{name} WITH {}", tokens.get(*at + 1).map_or("", String::as_str));
        *at += 2;
    }
    allowed.contains(&name)
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output =
        Command::new(cargo).args(["metadata", "--format-version", "1", "--locked"]).current_dir(root()).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

#[test]
fn s_045_every_dependency_is_licensed_as_deny_toml_allows_and_comes_from_the_registry() {
    let allowed = allowed();
    let packages = packages();
    let mut odd = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().expect("a name");
        if !package["license"].as_str().is_some_and(|licence| is_met(licence, &allowed)) {
            odd.push(format!("{name}: licence {}", package["license"]));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.starts_with("registry+https://github.com/rust-lang/crates.io-index")) {
            odd.push(format!("{name}: from {}", package["source"]));
        }
    }
    assert!(odd.is_empty(), "\n{}", odd.join("\n"));
    assert!(packages.len() <= CRATES_MAX, "{} crates, at most {CRATES_MAX} are budgeted", packages.len());
}

#[test]
fn a_licence_expression_is_read_right() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned);
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR MIT) AND AGPL-3.0", "MIT WITH something", "", "MIT MIT"] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
    assert!(self::allowed().contains(&"MIT".to_owned()));
}

//! Reads Rust sources as token trees: which paths they name, which modules they declare, where `unsafe` stands and how
//! long their functions are. Knows nothing of types; macros are read like everything else.

use proc_macro2::{Delimiter, Group, LineColumn, Spacing, TokenStream, TokenTree};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One path as it is written, groups expanded: `use crate::{a, b::c}` names `crate::a` and `crate::b::c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its segments, `crate` or `super` or a crate's name first.
    pub segments: Vec<String>,
    /// Line, from 1.
    pub line: usize,
    /// How many inline modules enclose it.
    pub inline_depth: usize,
    /// Whether it stands in an item under `#[cfg(test)]`.
    pub in_test: bool,
}

/// One function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, from 1.
    pub line: usize,
    /// Lines from its `fn` to its closing brace, without those of tables in brackets: they are data.
    pub lines: usize,
}

/// One `mod name;`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The inline modules that enclose it, outermost first, then its name.
    pub names: Vec<String>,
    /// What its `#[path]` says.
    pub path: Option<String>,
}

/// What one file says.
#[derive(Debug, Default)]
pub struct Source {
    /// Every path.
    pub named: Vec<Named>,
    /// Every function.
    pub functions: Vec<Function>,
    /// Every module that lives in another file.
    pub declared: Vec<Declared>,
    /// Lines with the word `unsafe`.
    pub unsafe_lines: Vec<usize>,
    /// Inner attributes, as `forbid (unsafe_code)`.
    pub inner_attributes: Vec<String>,
}

impl Source {
    /// Reads `text`.
    ///
    /// # Errors
    /// When it is no Rust: the place and the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens = TokenStream::from_str(text).map_err(|error| error.to_string())?;
        let mut reader = Reader::default();
        reader.items(tokens, false);
        Ok(reader.source)
    }
}

#[derive(Default)]
struct Reader {
    source: Source,
    inline: Vec<String>,
}

impl Reader {
    fn items(&mut self, stream: TokenStream, in_test: bool) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut next_is_test = false;
        let mut path = None;
        for (at, token) in tokens.iter().enumerate() {
            let rest = &tokens[at + 1..];
            match token {
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    match ident.to_string().as_str() {
                        "unsafe" => self.source.unsafe_lines.push(line),
                        "fn" => self.function(line, rest),
                        "mod" => self.module(rest, path.take()),
                        name if begins_path(&tokens[..at], rest) => {
                            let test = in_test || next_is_test;
                            self.path(vec![name.to_owned()], rest, line, test);
                        }
                        _ => {}
                    }
                }
                TokenTree::Group(group) if is_attribute(&tokens[..at], group) => {
                    let text = group.stream().to_string();
                    if tokens[..at].last().is_some_and(|token| is_punct(token, '!')) {
                        self.source.inner_attributes.push(text);
                    } else if text.starts_with("cfg") && text.contains("test") && !text.contains("not (test") {
                        next_is_test = true;
                    } else if let Some(file) = text.strip_prefix("path = ") {
                        path = Some(file.trim_matches('"').to_owned());
                    }
                }
                TokenTree::Group(_) if follows_colons(&tokens[..at]) => {} // of a `use`: read with its path
                TokenTree::Group(group) => {
                    let module = inline_module(&tokens[..at], group);
                    self.inline.extend(module.clone());
                    self.items(group.stream(), in_test || next_is_test);
                    if module.is_some() {
                        self.inline.pop();
                    }
                    next_is_test &= group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => next_is_test = false,
                _ => {}
            }
        }
    }

    fn function(&mut self, line: usize, rest: &[TokenTree]) {
        let Some(TokenTree::Ident(name)) = rest.first() else { return };
        let body = rest.iter().take_while(|token| !is_punct(token, ';')).find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
            _ => None,
        });
        if let Some(body) = body {
            let LineColumn { line: end, .. } = body.span_close().end();
            let lines = end - line + 1 - table_lines(body.stream());
            self.source.functions.push(Function { name: name.to_string(), line, lines });
        }
    }

    fn module(&mut self, rest: &[TokenTree], path: Option<String>) {
        if let [TokenTree::Ident(name), end, ..] = rest
            && is_punct(end, ';')
        {
            let names = self.inline.iter().cloned().chain([name.to_string()]).collect();
            self.source.declared.push(Declared { names, path });
        }
    }

    /// Follows a path whose first `segments` are known and whose rest begins with `::`.
    fn path(&mut self, mut segments: Vec<String>, mut rest: &[TokenTree], line: usize, in_test: bool) {
        while let [colon, _, next, tail @ ..] = rest
            && is_punct(colon, ':')
        {
            match next {
                TokenTree::Ident(ident) => segments.push(ident.to_string()),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    return self.group(&segments, group, in_test);
                }
                _ => break,
            }
            rest = if tail.first().is_some_and(joined_colon) { tail } else { &[] };
        }
        self.source.named.push(Named { segments, line, inline_depth: self.inline.len(), in_test });
    }

    fn group(&mut self, segments: &[String], group: &Group, in_test: bool) {
        let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
        for part in tokens.split(|token| is_punct(token, ',')) {
            let Some(TokenTree::Ident(first)) = part.first() else { continue };
            let mut named = segments.to_vec();
            named.push(first.to_string());
            self.path(named, &part[1..], first.span().start().line, in_test);
        }
    }
}

/// Lines between the brackets of every `[` … `]` in `stream`.
fn table_lines(stream: TokenStream) -> usize {
    let groups = stream.into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group),
        _ => None,
    });
    groups
        .map(|group| {
            if group.delimiter() != Delimiter::Bracket {
                return table_lines(group.stream());
            }
            (group.span_close().start().line - group.span_open().start().line).saturating_sub(1)
        })
        .sum()
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// The first colon of `::`.
fn joined_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
}

/// Whether the word between `before` and `rest` is the first of a path.
fn begins_path(before: &[TokenTree], rest: &[TokenTree]) -> bool {
    !follows_colons(before) && rest.first().is_some_and(joined_colon)
}

fn follows_colons(before: &[TokenTree]) -> bool {
    matches!(before, [.., one, two] if joined_colon(one) && is_punct(two, ':'))
}

fn is_attribute(before: &[TokenTree], group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket
        && match before {
            [.., hash, bang] if is_punct(bang, '!') => is_punct(hash, '#'),
            [.., hash] => is_punct(hash, '#'),
            [] => false,
        }
}

fn inline_module(before: &[TokenTree], group: &Group) -> Option<String> {
    match before {
        [.., TokenTree::Ident(word), TokenTree::Ident(name)]
            if word == "mod" && group.delimiter() == Delimiter::Brace =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// The project's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the workspace").to_owned()
}

/// Every file of the project below `folder` (relative to the root), sorted, relative to the root. Build results, what a
/// fuzzer found and version control are not the project.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(root().join(&folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.expect("a readable folder");
            let name = entry.file_name().into_string().expect("names in this project are UTF-8");
            let path = folder.join(&name);
            if !entry.file_type().expect("a readable entry").is_dir() {
                found.push(path);
            } else if !matches!(name.as_str(), "target" | ".git" | "artifacts" | "runs") {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The files below `folder` that are Rust.
pub fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found
}

/// Reads the file `path`, relative to the root.
///
/// # Panics
/// When it cannot be read or is no Rust.
pub fn read(path: &Path) -> Source {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Source::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Source::parse(text).expect("Rust").named.iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn a_path_is_named_whole_with_its_groups_expanded() {
        assert_eq!(
            names("use crate::{a, b::{c, d as e}, f::*};"),
            ["crate::a", "crate::b::c", "crate::b::d", "crate::f"]
        );
        assert_eq!(
            names("fn x() { let y = std::mem::take(&mut z); m!(crate::q::r()); }"),
            ["std::mem::take", "crate::q::r"]
        );
        assert_eq!(names("fn x(a: u8) -> Vec::<u8> { a }"), ["Vec"]);
        assert_eq!(names("struct A { b: super::B } pub(crate) struct C;"), ["super::B"]);
    }

    #[test]
    fn what_stands_under_cfg_test_is_marked() {
        let source = Source::parse("use a::b; #[cfg(test)] mod tests { use c::d; } fn f() { e::g() }").expect("Rust");
        let marks: Vec<_> = source.named.iter().map(|named| (named.in_test, named.inline_depth)).collect();
        assert_eq!(marks, [(false, 0), (true, 1), (false, 0)]);
        let source = Source::parse("#[cfg(test)] use a::b; use c::d;").expect("Rust");
        assert_eq!(source.named.iter().map(|named| named.in_test).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_function_is_measured_from_fn_to_its_brace() {
        let source = Source::parse("impl A {\n  fn f(\n    a: u8,\n  ) {\n    b\n  }\n  fn g();\n}\ntype P = fn(u8);")
            .expect("Rust");
        assert_eq!(source.functions, [Function { name: "f".into(), line: 2, lines: 5 }]);
        let table = "fn f() {\n  for a in [\n    1,\n    2,\n  ] {\n    g(a)\n  }\n}";
        assert_eq!(Source::parse(table).expect("Rust").functions[0].lines, 6);
    }

    #[test]
    fn modules_unsafe_and_inner_attributes_are_found() {
        let text =
            "#![forbid(unsafe_code)]\nmod a;\n#[path = \"x/y.rs\"]\nmod b;\nmod c { mod d; }\nunsafe impl E for F {}";
        let source = Source::parse(text).expect("Rust");
        let declared: Vec<_> = source.declared.iter().map(|one| (one.names.join("/"), one.path.clone())).collect();
        assert_eq!(declared, [("a".into(), None), ("b".into(), Some("x/y.rs".to_owned())), ("c/d".into(), None)]);
        assert_eq!((source.unsafe_lines, source.inner_attributes), (vec![6], vec!["forbid (unsafe_code)".to_owned()]));
    }
}

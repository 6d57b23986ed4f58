//! Finds the prose in Rust sources and Markdown pages.

use std::fs;
use std::path::Path;

/// A paragraph of documentation, a comment or an error text.
pub(crate) struct Passage {
    /// Relative to the workspace.
    pub(crate) file: String,
    pub(crate) line: usize,
    /// True for the first paragraph of an item's documentation.
    pub(crate) opens_docs: bool,
    text: String,
}

impl Passage {
    pub(crate) fn words(&self) -> usize {
        words(&self.text).len()
    }

    pub(crate) fn sentences(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive(". ").flat_map(|part| part.split_inclusive("? ")).map(str::trim)
    }
}

/// Returns all passages of a file, or of the files below a directory.
pub(crate) fn passages(root: &Path, path: &Path) -> Vec<Passage> {
    if path.is_dir() && !path.ends_with("target") {
        let entries = fs::read_dir(path).unwrap();
        let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        return entries.iter().flat_map(|entry| passages(root, entry)).collect();
    }
    let kind = path.extension().and_then(|extension| extension.to_str());
    if !matches!(kind, Some("rs" | "md")) {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let mut reader = Reader::new(path.strip_prefix(root).unwrap().display().to_string());
    for (line, text) in text.lines().enumerate() {
        match kind {
            Some("md") => reader.read("md", text.trim(), line + 1),
            _ => reader.read_code(text.trim(), line + 1),
        }
    }
    reader.end_paragraph();
    reader.passages
}

/// Joins lines of one kind into paragraphs.
struct Reader {
    file: String,
    passages: Vec<Passage>,
    /// The kind of the last line: a comment marker, `md`, or empty for code.
    kind: &'static str,
    line: usize,
    paragraph: String,
    opens_docs: bool,
    in_fence: bool,
}

impl Reader {
    fn new(file: String) -> Self {
        let (passages, paragraph) = (Vec::new(), String::new());
        Self { file, passages, kind: "", line: 0, paragraph, opens_docs: false, in_fence: false }
    }

    fn read_code(&mut self, text: &str, line: usize) {
        let markers = ["///", "//!", "//"];
        let comment = markers.into_iter().find_map(|kind| Some((kind, text.strip_prefix(kind)?)));
        match comment {
            Some((kind, text)) => self.read(kind, text.trim(), line),
            None => {
                self.end_block();
                self.read_error(text, line);
            }
        }
    }

    fn read(&mut self, kind: &'static str, text: &str, line: usize) {
        if self.kind != kind {
            self.end_block();
            (self.kind, self.opens_docs) = (kind, matches!(kind, "///" | "//!"));
        }
        if text.starts_with("```") {
            self.end_paragraph();
            self.in_fence = !self.in_fence;
        } else if self.in_fence || text.is_empty() || text.starts_with('#') {
            self.end_paragraph();
        } else {
            if text.starts_with("- ") || text.starts_with("* ") || text.starts_with('|') {
                self.end_paragraph();
            }
            self.add(text, line);
        }
    }

    /// The text of an error is prose that users read first.
    fn read_error(&mut self, text: &str, line: usize) {
        if let Some((_, text)) = text.split_once("#[error(\"") {
            self.add(text.rsplit_once('"').map_or(text, |(text, _)| text), line);
            self.end_paragraph();
        }
    }

    fn add(&mut self, text: &str, line: usize) {
        if self.paragraph.is_empty() {
            self.line = line;
        }
        self.paragraph.push_str(text);
        self.paragraph.push(' ');
    }

    fn end_block(&mut self) {
        self.end_paragraph();
        (self.kind, self.opens_docs, self.in_fence) = ("", false, false);
    }

    fn end_paragraph(&mut self) {
        let text = without_code(&std::mem::take(&mut self.paragraph));
        if !text.trim().is_empty() {
            let (file, line) = (self.file.clone(), self.line);
            self.passages.push(Passage { file, line, opens_docs: self.opens_docs, text });
            self.opens_docs = false;
        }
    }
}

/// Replaces code spans by one word, so that identifiers do not count as prose.
fn without_code(text: &str) -> String {
    let spans = text.split('`').enumerate();
    spans.map(|(n, span)| if n % 2 == 0 { span } else { "code" }).collect()
}

pub(crate) fn first_word(sentence: &str) -> String {
    words(sentence).into_iter().next().unwrap_or_default()
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

//! The completed parts of a long run, kept as files, so that an interrupted run resumes.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A directory with the completed parts.
#[derive(Debug)]
pub struct Parts {
    /// `None` for a run that does not resume.
    directory: Option<PathBuf>,
    /// The settings of the run. A part with other settings is not used.
    settings: String,
}

#[derive(Serialize, Deserialize)]
struct Part<T> {
    settings: String,
    part: T,
}

impl Parts {
    /// The parts in a directory, which is created if necessary.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn new(directory: Option<PathBuf>, settings: String) -> anyhow::Result<Self> {
        if let Some(directory) = &directory {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(Self { directory, settings })
    }

    /// A part that was kept by a run with these settings.
    pub fn find<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read_to_string(self.file(name)?).ok()?;
        let found: Part<T> = serde_json::from_str(&text).ok()?;
        (found.settings == self.settings).then_some(found.part)
    }

    /// Keeps a part.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn keep<T: Serialize>(&self, name: &str, part: &T) -> anyhow::Result<()> {
        let Some(file) = self.file(name) else { return Ok(()) };
        let part = Part { settings: self.settings.clone(), part };
        // A run that is interrupted while it writes leaves no incomplete part.
        let unfinished = file.with_extension("unfinished");
        let written = fs::write(&unfinished, serde_json::to_string(&part)?);
        let written = written.and_then(|()| fs::rename(&unfinished, &file));
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{name}.json")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_under_its_settings() {
        let directory = testkit::ports::fresh_directory("parts");
        let parts =
            |settings: &str| Parts::new(Some(directory.clone()), settings.to_owned()).unwrap();
        parts("a").keep("one", &7).unwrap();
        assert_eq!(parts("a").find("one"), Some(7));
        assert_eq!(parts("b").find::<i32>("one"), None);
        assert_eq!(parts("a").find::<i32>("other"), None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_run_that_does_not_resume_keeps_nothing() {
        let parts = Parts::new(None, String::new()).unwrap();
        parts.keep("one", &7).unwrap();
        assert_eq!(parts.find::<i32>("one"), None);
    }
}

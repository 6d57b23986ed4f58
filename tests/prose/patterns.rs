//! The word list of the project: constructions to avoid, and how often each is accepted.

use crate::text::words;

/// A construction that makes a sentence hard to read.
pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    /// The highest accepted number of matches per 10,000 words.
    pub(crate) per_10_000: f64,
    place: Place,
    phrases: &'static [&'static str],
    /// Longer phrases that contain one of `phrases` and are plain English.
    except: &'static [&'static str],
}

enum Place {
    Anywhere,
    /// The start of a sentence that is not a question.
    Start,
}

/// Each phrase is matched as a sequence of lowercase words.
pub(crate) const PATTERNS: &[Pattern] = &[
    Pattern {
        name: "indefinite pronoun as a role",
        per_10_000: 1.0,
        place: Place::Anywhere,
        phrases: &["whoever", "nobody", "somebody", "anybody", "whatever"],
        except: &[],
    },
    Pattern {
        name: "relative clause as the subject",
        per_10_000: 1.0,
        place: Place::Start,
        phrases: &["who", "what"],
        except: &[],
    },
    Pattern {
        name: "dated adverb",
        per_10_000: 0.5,
        place: Place::Anywhere,
        phrases: &["meanwhile", "anew", "thereby", "likewise", "hitherto"],
        except: &[],
    },
    Pattern {
        name: "\"behind\" for after, in the background or late",
        per_10_000: 3.4,
        place: Place::Anywhere,
        phrases: &["behind"],
        except: &[
            "falls behind",
            "fell behind",
            "lags behind",
            "left behind",
            "behind a load balancer",
            "behind a proxy",
            "behind haproxy",
            "behind nginx",
        ],
    },
    Pattern {
        name: "\"takes for\" for considers",
        per_10_000: 0.5,
        place: Place::Anywhere,
        phrases: &["for dead", "for alive", "for granted", "taken for", "takes for", "take for"],
        except: &[],
    },
    Pattern {
        name: "\"is said\" or \"is told\" for reports",
        per_10_000: 0.5,
        place: Place::Anywhere,
        phrases: &[
            "is said",
            "is told",
            "are said",
            "are told",
            "be said",
            "be told",
            "was said",
            "was told",
            "were told",
            "told so",
        ],
        except: &[],
    },
    Pattern {
        name: "\"is no X\" for is not an X",
        per_10_000: 3.1,
        place: Place::Anywhere,
        phrases: &["is no", "are no", "was no", "were no", "be no"],
        except: &[
            "there is no",
            "there are no",
            "there was no",
            "there were no",
            "there be no",
            "is no longer",
            "are no longer",
            "was no longer",
            "is no more than",
            "are no more than",
        ],
    },
    Pattern {
        name: "ambiguous idiom",
        per_10_000: 2.0,
        place: Place::Anywhere,
        phrases: &[
            "at once",
            "as far as",
            "nothing but",
            "none but",
            "all but",
            "for want of",
            "other than that",
            "leads to it",
            "so many",
        ],
        except: &[
            "falls behind",
            "fell behind",
            "lags behind",
            "left behind",
            "behind a load balancer",
            "behind a proxy",
            "behind haproxy",
            "behind nginx",
        ],
    },
];

/// Words that rarely open the first line of good documentation: it names a thing or says what a function does.
pub(crate) const OPENINGS: &[&str] = &[
    "what", "when", "where", "which", "who", "whose", "whom", "why", "how", "whether", "of", "for",
    "in", "at", "on", "with", "from", "by", "to", "under", "behind", "after", "before", "until",
    "since", "without", "between",
];

/// The highest accepted number of such first lines in 100.
pub(crate) const OPENINGS_PER_100: f64 = 4.0;

impl Pattern {
    /// Counts the matches in a sentence.
    pub(crate) fn count(&self, sentence: &str) -> usize {
        let words = words(sentence);
        match self.place {
            Place::Start if sentence.ends_with('?') => 0,
            Place::Start => {
                let first = words.first().map_or("", String::as_str);
                usize::from(self.phrases.contains(&first))
            }
            Place::Anywhere => {
                let found = occurrences(self.phrases, &words);
                found.saturating_sub(occurrences(self.except, &words))
            }
        }
    }
}

fn occurrences(phrases: &[&str], words: &[String]) -> usize {
    let count = |phrase: &&str| {
        let phrase: Vec<_> = phrase.split(' ').collect();
        words.windows(phrase.len()).filter(|found| *found == phrase.as_slice()).count()
    };
    phrases.iter().map(count).sum()
}

#[test]
fn patterns_match_whole_words() {
    let total =
        |sentence: &str| PATTERNS.iter().map(|pattern| pattern.count(sentence)).sum::<usize>();
    for found in [
        "Whoever has the lock goes first.",
        "What is left is dropped.",
        "A node is told when it is dead.",
        "A visitor is no user.",
        "It runs behind the response.",
    ] {
        assert_eq!(total(found), 1, "{found}");
    }
    for plain in ["There is no user.", "What is left?", "It lags behind.", "Is it retold?"] {
        assert_eq!(total(plain), 0, "{plain}");
    }
}

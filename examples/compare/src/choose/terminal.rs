//! `choose`: the five questions in a terminal.

use std::io::{BufRead, Write};

use anyhow::{Context, bail};

use super::{Answers, Choice, Chooser, QUESTIONS, Question};
use crate::report::Report;

/// Reads the arguments that follow `choose`, asks what they leave open, and returns the choice.
///
/// # Errors
///
/// If an option or an answer is unknown, or the input ends before the last answer.
pub fn choose(
    arguments: &[String],
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<String> {
    let mut given = [None; QUESTIONS.len()];
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--help" {
            return Ok(usage());
        }
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), arguments.next().map(String::as_str)),
        };
        let question = QUESTIONS.iter().position(|one| name.strip_prefix("--") == Some(one.id));
        let question =
            question.with_context(|| format!("unknown option {name:?}: see choose --help"))?;
        let value = value.with_context(|| format!("{name} needs a value"))?;
        let answer = answer(&QUESTIONS[question], value);
        given[question] =
            Some(answer.with_context(|| format!("invalid value {value:?} for {name}"))?);
    }
    let mut answers: Answers = [0; QUESTIONS.len()];
    for (n, question) in QUESTIONS.iter().enumerate() {
        answers[n] = match given[n] {
            Some(answer) => answer,
            None => ask(question, input, output)?,
        };
    }
    let report = Report::committed();
    let chooser =
        Chooser::new(&report).context("the report in the repository has no unit costs")?;
    Ok(text(&chooser.choose(answers)))
}

/// Asks until there is an answer.
fn ask(
    question: &Question,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<usize> {
    writeln!(output, "{}", question.text)?;
    for (id, words) in question.answers {
        writeln!(output, "  {id:<9} {words}")?;
    }
    loop {
        write!(output, "> ")?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            bail!("the input ended before the question {:?} was answered", question.text);
        }
        match answer(question, line.trim()) {
            Ok(answer) => return Ok(answer),
            Err(error) => writeln!(output, "{error}")?,
        }
    }
}

/// The number of an answer, by its name or its words.
fn answer(question: &Question, given: &str) -> anyhow::Result<usize> {
    let found = question.answers.iter().position(|(id, words)| [*id, *words].contains(&given));
    let ids = || question.answers.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ");
    found.with_context(|| format!("expected one of {}", ids()))
}

fn text(choice: &Choice) -> String {
    let title = choice.strategy.map_or("Nothing fits", |strategy| strategy.title());
    let list =
        |lines: &[String]| lines.iter().map(|line| format!("  - {line}\n")).collect::<String>();
    format!(
        "\n{title}\n{}\nWhat would change that:\n{}",
        list(&choice.reasons),
        list(&choice.changes)
    )
}

fn usage() -> String {
    let mut usage =
        "usage: compare choose [--OPTION ANSWER]...\n\nIt asks what the options leave open.\n\n"
            .to_owned();
    for question in &QUESTIONS {
        let answers: Vec<_> = question.answers.iter().map(|(id, _)| *id).collect();
        usage += &format!("  --{:<10} {} {}\n", question.id, question.text, answers.join(", "));
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_answer_is_asked_again() {
        let (answer, said) = asked(&QUESTIONS[2], "mongo\nRedis\n");
        assert_eq!(answer.unwrap(), 1);
        assert!(said.contains("expected one of none, redis, postgres"), "{said}");
        let (answer, _) = asked(&QUESTIONS[2], "");
        assert!(answer.unwrap_err().to_string().contains("Which server do you run"));
    }

    #[test]
    fn errors_name_the_option() {
        let error = |argument: &str| {
            let arguments = [argument.to_owned()];
            format!("{:#}", choose(&arguments, &mut &b""[..], &mut Vec::new()).unwrap_err())
        };
        assert_eq!(error("--size=3"), "unknown option \"--size\": see choose --help");
        assert_eq!(
            error("--nodes=9"),
            "invalid value \"9\" for --nodes: expected one of few, some, many"
        );
    }

    #[test]
    fn options_answer_questions_and_the_rest_is_asked() {
        let arguments = ["--nodes=few", "--balancer=nothing", "--server=redis"].map(str::to_owned);
        let mut said = Vec::new();
        let text = choose(&arguments, &mut &b"no\nyes\n"[..], &mut said).unwrap();
        assert!(text.starts_with("\nRedis\n"), "{text}");
        assert!(text.contains("What would change that:"));
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("sign in again") && !said.contains("How many nodes"), "{said}");
    }

    fn asked(question: &Question, input: &str) -> (anyhow::Result<usize>, String) {
        let mut output = Vec::new();
        let answer = ask(question, &mut input.as_bytes(), &mut output);
        (answer, String::from_utf8(output).unwrap())
    }
}

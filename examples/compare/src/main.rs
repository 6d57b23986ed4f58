//! The program: reads the options, runs the comparison, and ends with everything it started.

use std::io::Write;
use std::process::ExitCode;

use compare::options::Options;
use compare::{choose, predict};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "predict" => return tell(predict::predict(rest)),
        Some((command, rest)) if command == "choose" => {
            let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout());
            return tell(choose::terminal::choose(rest, &mut input, &mut output));
        }
        _ => {}
    }
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print(&Options::usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error),
    };
    tokio::select! {
        ended = compare::run(&options) => match ended {
            Ok(report) => {
                let page = options.out.join("report.html");
                print(&format!("\n{}\nsee {}", report.text(), page.display()));
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        () = interrupted() => {
            eprintln!("\ncompare: stopped; its processes end too");
            // The pipes to all processes close now, and each shell kills its own.
            std::process::exit(130)
        }
    }
}

/// Resolves at Ctrl-C or SIGTERM.
async fn interrupted() {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn tell(text: anyhow::Result<String>) -> ExitCode {
    match text {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("\ncompare: {error:#}");
    ExitCode::FAILURE
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

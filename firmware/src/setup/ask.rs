//! Questions in a terminal. Where standard input is none, answers may still come through it, a line each; where they end,
//! the error names the flag that would have answered.

use std::io::{BufRead, Write};

use anyhow::{Context, bail};

/// Wrong answers to one question before it is given up: what answers is then no person.
const TRIES: usize = 5;

/// Who asks whom.
pub struct Ask<R, W> {
    input: R,
    out: W,
    /// A person sits there.
    pub terminal: bool,
    /// Nobody answers any more.
    pub ended: bool,
}

impl<R: BufRead, W: Write> Ask<R, W> {
    /// Answers from `input`, questions to `out`.
    pub fn new(input: R, out: W, terminal: bool) -> Self {
        Self { input, out, terminal, ended: false }
    }

    /// A line for the reader; whoever does not read has no question either.
    pub fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    /// Overwrites the line before, in a terminal.
    pub fn show(&mut self, text: &str) {
        let _ = write!(self.out, "\r\x1b[K{text}").and_then(|()| self.out.flush());
    }

    /// A line of text; what stands in brackets where it is empty.
    ///
    /// # Errors
    /// Nobody answers; `flag` would have.
    pub fn text(&mut self, question: &str, default: &str, flag: &str) -> anyhow::Result<String> {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        let _ = write!(self.out, "{question}{shown}: ").and_then(|()| self.out.flush());
        let mut line = String::new();
        let read = self.input.read_line(&mut line).context("standard input")?;
        if read == 0 {
            self.ended = true;
            self.say("");
            bail!("{question}: nobody answers; give {flag}");
        }
        let answer = line.trim();
        Ok(if answer.is_empty() { default.to_string() } else { answer.to_string() })
    }

    /// One of `options`, by its number or its name.
    ///
    /// # Errors
    /// Nobody answers, or nothing that is offered.
    pub fn choice(&mut self, question: &str, options: &[String], default: usize, flag: &str) -> anyhow::Result<usize> {
        for (index, option) in options.iter().enumerate() {
            self.say(&format!("  {}  {option}", index + 1));
        }
        for _ in 0..TRIES {
            let answer = self.text(question, &(default + 1).to_string(), flag)?;
            let by_name = options.iter().position(|option| option.split("  ").next() == Some(answer.as_str()));
            let by_number = answer.parse::<usize>().ok().filter(|n| (1..=options.len()).contains(n)).map(|n| n - 1);
            if let Some(index) = by_name.or(by_number) {
                return Ok(index);
            }
            self.say(&format!("`{answer}` is none of 1 to {}", options.len()));
        }
        bail!("{question}: no answer that is offered; give {flag}")
    }

    /// Yes or no.
    ///
    /// # Errors
    /// Nobody answers, or neither.
    pub fn yes_no(&mut self, question: &str, default: bool, flag: &str) -> anyhow::Result<bool> {
        for _ in 0..TRIES {
            match self.text(&format!("{question} (y/n)"), if default { "y" } else { "n" }, flag)?.as_str() {
                "y" | "Y" | "yes" => return Ok(true),
                "n" | "N" | "no" => return Ok(false),
                other => self.say(&format!("`{other}` is neither y nor n")),
            }
        }
        bail!("{question}: neither y nor n; give {flag}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(input: &str) -> Ask<&[u8], Vec<u8>> {
        Ask::new(input.as_bytes(), Vec::new(), false)
    }

    #[test]
    fn answers_defaults_and_second_tries() {
        let options = ["a  first".to_string(), "b  second".to_string()];
        let choose = |input: &str| ask(input).choice("Which", &options, 1, "--x").unwrap();
        assert_eq!((choose("1\n"), choose("\n"), choose("b\n"), choose("7\nnonsense\na\n")), (0, 1, 1, 0));
        assert!(ask("\n").yes_no("Q", true, "--x").unwrap() && !ask("maybe\nno\n").yes_no("Q", true, "--x").unwrap());
        assert_eq!(ask(" hub.local \n").text("Q", "", "--x").unwrap(), "hub.local");
    }

    #[test]
    fn nobody_who_answers_is_told_the_flag() {
        let said = ask("").text("Which microphone", "", "--audio").unwrap_err().to_string();
        assert_eq!(said, "Which microphone: nobody answers; give --audio");
        assert!(ask(&"x\n".repeat(9)).yes_no("Q", true, "--x").unwrap_err().to_string().contains("give --x"));
    }
}

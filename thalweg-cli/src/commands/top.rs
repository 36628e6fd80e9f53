//! `thalweg top`: what a GPU does now, as bars or line by line.
//!
//! The screen is a dozen lines that are drawn again, so it needs no library for screens: five escape sequences that every
//! terminal has since the VT100 do.

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::{Duration, Instant};

use thalweg::backend::Surroundings;
use thalweg::report;
use thalweg::watch::{Gauges, Reading};

use crate::args::TopArgs;
use crate::output::{Output, print};
use crate::progress::Interrupts;

/// How often it is asked whether to end.
const ATTENTION: Duration = Duration::from_millis(50);

/// Another screen than the one with the user's lines, without a cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the upper left; what is left of a line; what is left of the screen.
const HOME: &str = "\u{1b}[H";
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";

pub fn run(args: &TopArgs, output: &Output) -> anyhow::Result<()> {
    let surroundings = Surroundings { device: args.device.clone(), ..Surroundings::default() };
    let mut gauges = Gauges::open(&surroundings)?;
    let interrupts = Interrupts::catch()?;
    let start = Instant::now();
    let is_over =
        || interrupts.stop.is_requested() || args.duration.is_some_and(|limit| start.elapsed() >= limit);
    let shows_bars = !args.plain && !output.is_json() && io::stdout().is_terminal();
    let mut screen = shows_bars.then(Screen::enter).transpose()?;
    while !is_over() {
        let next = Instant::now() + args.period;
        while Instant::now() < next && !is_over() {
            thread::sleep(ATTENTION.min(args.period));
        }
        let reading = gauges.read();
        match &mut screen {
            Some(screen) => screen.draw(gauges.name(), &reading)?,
            None if output.is_json() => print(&(serde_json::to_string(&reading)? + "\n"))?,
            None => print(&(report::line_of_reading(&reading) + "\n"))?,
        }
    }
    Ok(())
}

/// The screen, given back when it is dropped.
struct Screen;

impl Screen {
    fn enter() -> anyhow::Result<Self> {
        print(ENTER)?;
        Ok(Self)
    }

    fn draw(&mut self, name: &str, reading: &Reading) -> anyhow::Result<()> {
        let bars = report::bars_of_reading(name, reading, crate::output::style(&io::stdout()));
        let lines: String = bars.lines().map(|line| format!("{line}{REST_OF_LINE}\r\n")).collect();
        print(&format!("{HOME}{lines}{REST_OF_LINE}Ctrl-C ends it.{REST_OF_SCREEN}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where stdout is gone there is no screen to give back.
        let _ = print(LEAVE);
    }
}

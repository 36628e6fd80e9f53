//! Scoring verdicts against labels: confusion matrices, what `trtexec` would say, and predicted gains.

use thalweg::diagnose::{HEALTHY_GAIN, Limit, Verdict};

/// Gains whose throughputs differ by less than this say the same: an expert would sign either. A verdict is right if
/// what it names is as good as the best.
pub const AS_GOOD: f64 = 0.05;

/// Of verdicts that gain alike within this the first, in the order of [`Limit::ALL`], is the label.
const ALIKE: f64 = 0.03;

/// What was said of one case, beside what is true of it.
pub struct Judged {
    /// Whether rules and constants were chosen with a look at it; the others were only evaluated.
    pub is_tuned_on: bool,
    /// What is true.
    pub label: Verdict,
    /// All that would be right.
    pub right: Vec<Verdict>,
    /// What the rules say.
    pub verdict: Verdict,
    /// What `trtexec` would print of the same measurement; `None` where it is silent.
    pub trtexec: Option<Verdict>,
}

impl Judged {
    fn is_right(&self) -> bool {
        self.right.contains(&self.verdict)
    }
}

/// The verdict that gains most, or the first of those that are alike; healthy where none gains enough.
pub fn label(gains: &[(Verdict, f64)]) -> Verdict {
    let most = most(gains);
    let in_order = Limit::ALL.map(Verdict::of);
    let alike = |verdict: &Verdict| {
        gains.iter().any(|(named, gain)| named == verdict && *gain >= most * (1.0 - ALIKE))
    };
    match in_order.into_iter().find(alike) {
        Some(verdict) if most >= HEALTHY_GAIN => verdict,
        _ => Verdict::Healthy,
    }
}

/// All verdicts that are right where these gain so much.
pub fn right(gains: &[(Verdict, f64)]) -> Vec<Verdict> {
    let most = most(gains);
    let good = gains.iter().filter(|(_, gain)| *gain >= most * (1.0 - AS_GOOD));
    let mut right: Vec<Verdict> = good.map(|(verdict, _)| *verdict).collect();
    if most < HEALTHY_GAIN * (1.0 - AS_GOOD / 2.0) {
        right.clear();
    }
    if most < HEALTHY_GAIN * (1.0 + AS_GOOD / 2.0) {
        right.push(Verdict::Healthy);
    }
    right
}

fn most(gains: &[(Verdict, f64)]) -> f64 {
    gains.iter().map(|(_, gain)| *gain).fold(1.0, f64::max)
}

/// Both matrices, and what `trtexec` says; gives the share that is right, of all and of those only evaluated.
pub fn print_scores(judged: &[Judged]) -> (f64, f64) {
    for (name, is_tuned_on) in [("tuned on", true), ("evaluated only", false)] {
        let part: Vec<&Judged> = judged.iter().filter(|it| it.is_tuned_on == is_tuned_on).collect();
        print_matrix(name, &part);
    }
    let said = judged.iter().filter_map(|it| Some(it.right.contains(&it.trtexec?)));
    let (right, wrong): (Vec<bool>, Vec<bool>) = said.partition(|is_right| *is_right);
    println!(
        "\ntrtexec's rules on the same measurements: {} of {} right, {} times wrong, {} times silent",
        right.len(),
        judged.len(),
        wrong.len(),
        judged.len() - right.len() - wrong.len()
    );
    let evaluated: Vec<&Judged> = judged.iter().filter(|it| !it.is_tuned_on).collect();
    (share(&judged.iter().collect::<Vec<_>>()), share(&evaluated))
}

fn share(judged: &[&Judged]) -> f64 {
    judged.iter().filter(|it| it.is_right()).count() as f64 / judged.len().max(1) as f64
}

fn print_matrix(name: &str, judged: &[&Judged]) {
    let short = |verdict: Verdict| verdict.to_string().chars().take(7).collect::<String>();
    let exact = judged.iter().filter(|it| it.label == it.verdict).count();
    println!(
        "\n{name}: {} cases, {:.1} % right, {:.1} % the label itself",
        judged.len(),
        100.0 * share(judged),
        100.0 * exact as f64 / judged.len().max(1) as f64
    );
    print!("{:24}", "label \\ verdict");
    Verdict::ALL.iter().for_each(|verdict| print!(" {:>7}", short(*verdict)));
    println!();
    for label in Verdict::ALL {
        print!("{label:24}");
        for verdict in Verdict::ALL {
            let count = judged.iter().filter(|it| (it.label, it.verdict) == (label, verdict)).count();
            print!(" {:>7}", if count == 0 { "·".to_owned() } else { count.to_string() });
        }
        println!();
    }
}

/// A gain that was predicted, and what it was.
#[derive(Clone, Copy)]
pub struct Gain {
    pub is_tuned_on: bool,
    pub predicted: f64,
    pub measured: f64,
}

/// How many are within max(0.05, 15 %), of all and of those worth something; gives the share of all.
pub fn print_gains(gains: &[Gain]) -> f64 {
    let is_near = |predicted: f64, truth: f64| (predicted - truth).abs() <= (0.15 * truth).max(0.05);
    println!("\ngain of the first remedy, predicted within max(0.05, 15 %):");
    let count = |least: f64, part: Option<bool>| {
        let of =
            gains.iter().filter(|it| it.measured >= least && part.is_none_or(|part| it.is_tuned_on == part));
        let of: Vec<&Gain> = of.collect();
        let near = of.iter().filter(|it| is_near(it.predicted, it.measured)).count();
        let nothing = of.iter().filter(|it| is_near(1.0, it.measured)).count();
        (near, nothing, of.len())
    };
    for (name, least) in [("all that were tried", 0.0), ("a gain of 1.2 or more", 1.2)] {
        for (part, is_tuned_on) in [("tuned on", Some(true)), ("evaluated only", Some(false)), ("both", None)]
        {
            let (near, nothing, all) = count(least, is_tuned_on);
            println!("  {name:22} {part:15} {near} of {all}; always 1.0: {nothing}");
        }
    }
    let (near, _, all) = count(0.0, None);
    near as f64 / all.max(1) as f64
}

//! The sentence that says what won and why. Comparisons are measured; the one cause it names, the resource that
//! limits the number of streams, is predicted from what was measured and marked so.

use super::outcome::is_calmer;
use super::summary::{Ranking, closest};
use super::{Candidate, Compliance, Limits, Standing};
use crate::backend::Wait;
use crate::capacity::Curve;
use crate::measure::Estimate;
use crate::pool::Configuration;
use crate::units::{Bytes, three_digits};

/// Ratios this close to one are called "as fast": the search's indifference.
const AS_FAST: f64 = 0.01;

/// Both ends of an interval this close to one show a tie; a wider one only fails to show a difference.
const SHOWN: f64 = 0.03;

/// What won, by how much, whether it keeps the limits, what the other values of its knobs reach, and what keeps
/// more streams from being faster. Its throughput is the confirmed one where there is one, in inferences per second.
pub(super) fn verdict(
    ranking: &Ranking,
    limits: &Limits,
    curve: Option<&Curve>,
    confirmed: Option<Estimate>,
) -> String {
    let Some(winner) = ranking.winner.map(|index| &ranking.candidates[index]) else {
        return nobody(ranking, limits);
    };
    let clauses = [
        Some(headline(winner, ranking, confirmed)),
        limit_clause(winner, limits),
        runner_up_clause(ranking),
        alternatives_clause(ranking),
        faster_over_limit_clause(ranking, limits),
        curve.and_then(|curve| cause_clause(ranking, curve)),
    ];
    clauses.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn headline(winner: &Candidate, ranking: &Ranking, confirmed: Option<Estimate>) -> String {
    // The confirmation took no part in the choice, so it is free of the luck that helped to win.
    let throughput = confirmed.or(winner.throughput_inferences_per_s);
    let throughput = throughput.map_or_else(|| "unknown".to_owned(), |e| three_digits(e.value));
    let speed = format!("{}: {throughput} inferences/s", winner.configuration);
    match &ranking.baseline {
        Some(baseline) if baseline.ratio.lower == baseline.ratio.upper => {
            format!("{speed}, and it is what one would run without tuning")
        }
        Some(baseline) => {
            let Estimate { value, lower, upper } = baseline.ratio;
            let (value, lower, upper) = (three_digits(value), three_digits(lower), three_digits(upper));
            // Only on a processor is there a choice of threads.
            let threads = ranking.candidates[baseline.candidate].configuration.threads_per_stream;
            let with = if threads > 1 { " with all threads" } else { "" };
            format!("{speed}, {value} times ({lower} to {upper}) one stream at the smallest batch{with}")
        }
        None => speed,
    }
}

fn limit_clause(winner: &Candidate, limits: &Limits) -> Option<String> {
    let limits_text = limits_text(limits)?;
    let n = winner.latency.as_ref().map_or(0, |latency| latency.n);
    let p99 = winner.latency.as_ref().and_then(|latency| latency.p99);
    let seen = p99.map_or(String::new(), |p99| format!(" (p99 {p99})"));
    Some(match winner.compliance {
        Compliance::Keeps => format!("it keeps {limits_text}{seen}, {n} records"),
        Compliance::Unproven => format!("that it keeps {limits_text} is not proven{seen}, {n} records"),
        Compliance::Breaks => format!("it breaks {limits_text}{seen}, {n} records"),
    })
}

fn limits_text(limits: &Limits) -> Option<String> {
    let p99 = limits.p99.map(|limit| format!("the p99 limit of {limit}"));
    let memory = limits.memory_bytes.map(|limit| format!("the memory limit of {}", Bytes(limit)));
    let texts: Vec<String> = p99.into_iter().chain(memory).collect();
    (!texts.is_empty()).then(|| texts.join(" and "))
}

fn runner_up_clause(ranking: &Ranking) -> Option<String> {
    let runner_up = ranking.runner_up.as_ref()?;
    let configuration = ranking.candidates[runner_up.candidate].configuration;
    let Estimate { value, lower, upper } = runner_up.ratio;
    if let Some(text) = tie_clause(ranking, runner_up.ratio) {
        return Some(text);
    }
    if lower <= 1.0 && 1.0 <= upper {
        return Some(format!("{configuration} cannot be told apart from it"));
    }
    // Turned round, so that it reads like the other comparisons.
    let (share, least, most) = (percent(1.0 / value), percent(1.0 / upper), percent(1.0 / lower));
    Some(format!("the runner-up, {configuration}, reaches {share} ({least} to {most}) of it"))
}

/// Where the winner won by its latency, or since it sleeps: what it is as fast as, or may be.
fn tie_clause(ranking: &Ranking, ratio: Estimate) -> Option<String> {
    let (winner, runner_up) = (ranking.winner?, ranking.runner_up.as_ref()?.candidate);
    let p50 = |index: usize| Some(ranking.candidates[index].latency.as_ref()?.p50);
    let (own, other) = (p50(winner)?, p50(runner_up)?);
    let configuration = ranking.candidates[runner_up].configuration;
    let is_tie = (1.0 - AS_FAST..=1.0 + AS_FAST).contains(&ratio.value);
    let sleeps = |index: usize| ranking.candidates[index].configuration.wait == Wait::Block;
    if is_tie && sleeps(winner) && !sleeps(runner_up) {
        return Some(format!("{configuration} is about as fast and keeps a core of the host busy"));
    }
    if !is_tie || !is_calmer(own, other) {
        return None;
    }
    let speed = if 1.0 - SHOWN <= ratio.lower && ratio.upper <= 1.0 + SHOWN {
        "is as fast within 1 %".to_owned()
    } else {
        let (least, most) = (percent(1.0 / ratio.upper), percent(1.0 / ratio.lower));
        format!("may be faster or slower ({least} to {most} of it)")
    };
    Some(format!("{configuration} {speed} and takes {other} for a request instead of {own} (medians)"))
}

/// For each knob: the best that another value of it reached, with all others as the winner has them. What was measured with
/// other knobs as well tells nothing of one of them, but that other numbers of streams share the cores in their own way.
fn alternatives_clause(ranking: &Ranking) -> Option<String> {
    let winner = ranking.winner?;
    let best = ranking.scores[winner]?;
    let own = ranking.candidates[winner].configuration;
    let others: Vec<(Configuration, f64)> = ranking
        .candidates
        .iter()
        .zip(&ranking.scores)
        .filter(|(candidate, _)| matches!(candidate.standing, Standing::Contender | Standing::Slower))
        .filter_map(|(candidate, score)| Some((candidate.configuration, (*score)? / best)))
        .collect();
    let texts: Vec<String> = KNOBS.iter().filter_map(|knob| alternative(knob, own, &others)).collect();
    (!texts.is_empty()).then(|| format!("the same {}", texts.join(", ")))
}

/// A knob's name before and after its value, and where it stands.
type Knob = (&'static str, &'static str, fn(&mut Configuration) -> &mut usize);

const STREAM: &str = "stream";

const KNOBS: [Knob; 5] = [
    ("with", STREAM, |configuration| &mut configuration.streams),
    ("at batch", "", |configuration| &mut configuration.batch_size),
    ("with", "thread per stream", |configuration| &mut configuration.threads_per_stream),
    ("at depth", "", |configuration| &mut configuration.depth),
    ("with", "submitter", |configuration| &mut configuration.submitters),
];

fn alternative(knob: &Knob, own: Configuration, others: &[(Configuration, f64)]) -> Option<String> {
    let (before, noun, place) = knob;
    let value = |mut configuration: Configuration| *place(&mut configuration);
    let turned = |to: usize| {
        let mut configuration = own;
        *place(&mut configuration) = to;
        configuration
    };
    let shares_cores = *noun == STREAM;
    let differs_in_it_alone = |other: Configuration| {
        let threads_per_stream = if shares_cores { own.threads_per_stream } else { other.threads_per_stream };
        // It follows from the batch.
        let smallest_batch = own.smallest_batch;
        let unturned = Configuration { threads_per_stream, smallest_batch, ..other };
        value(other) != value(own) && turned(value(other)) == unturned
    };
    let differing = others.iter().filter(|(other, _)| differs_in_it_alone(*other));
    let (other, share) = differing.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let count = value(*other);
    let noun = match (noun.split_once(' '), count) {
        _ if noun.is_empty() => String::new(),
        (_, 1) => format!(" {noun}"),
        (Some((first, rest)), _) => format!(" {first}s {rest}"),
        (None, _) => format!(" {noun}s"),
    };
    let reached = if (share - 1.0).abs() < AS_FAST {
        "is as fast".to_owned()
    } else {
        format!("reaches {}", percent(*share))
    };
    let threads = match other.threads_per_stream {
        threads if threads == own.threads_per_stream => String::new(),
        _ if !shares_cores => String::new(),
        1 => " of 1 thread".to_owned(),
        threads => format!(" of {threads} threads"),
    };
    Some(format!("{before} {count}{noun}{threads} {reached}"))
}

fn faster_over_limit_clause(ranking: &Ranking, limits: &Limits) -> Option<String> {
    let best = ranking.scores[ranking.winner?]?;
    let over = ranking.candidates.iter().zip(&ranking.scores);
    let faster = over.filter(|(candidate, score)| {
        candidate.standing == Standing::OverLimit && score.is_some_and(|score| score > best)
    });
    let (candidate, score) = faster.max_by(|a, b| a.1.unwrap_or(0.0).total_cmp(&b.1.unwrap_or(0.0)))?;
    let share = percent((*score)? / best);
    Some(format!("{} reaches {share} of it and breaks {}", candidate.configuration, limits_text(limits)?))
}

/// Why more streams are not faster: what is full, and from how many on.
fn cause_clause(ranking: &Ranking, curve: &Curve) -> Option<String> {
    let winner = ranking.candidates[ranking.winner?].configuration;
    let (streams, resource) = curve.saturation()?;
    // Where fewer won, as under a limit, more may gain much.
    if winner.streams < streams {
        return None;
    }
    let full = resource.with_verb();
    let from = if streams == 1 { "one stream".to_owned() } else { format!("{streams} streams") };
    Some(format!("more streams gain little because {full} full from {from} on (predicted)"))
}

fn nobody(ranking: &Ranking, limits: &Limits) -> String {
    let limits_text = limits_text(limits).unwrap_or_else(|| "the limits".to_owned());
    // How close it comes is told by latencies.
    let Some(closest) = closest(&ranking.candidates).filter(|_| limits.p99.is_some()) else {
        return format!("no configuration that was measured keeps {limits_text}");
    };
    let tail = closest.latency.as_ref().map(|latency| match latency.p99 {
        Some(p99) => format!(" with a p99 of {p99}"),
        None => format!(" with latencies up to {}", latency.max),
    });
    let tail = tail.unwrap_or_default();
    format!("no configuration keeps {limits_text}; {} comes closest{tail}", closest.configuration)
}

/// `88 %`
fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::Comparison;
    use crate::tune::synthetic::candidate;
    use crate::units::Nanos;

    fn ranking() -> Ranking {
        let with = |streams, batch_size, mut candidate: Candidate| {
            candidate.configuration = Configuration { streams, batch_size, ..candidate.configuration };
            candidate
        };
        let candidates = vec![
            with(2, 4, Candidate { standing: Standing::Winner, ..candidate(400.0, 5_000_000) }),
            with(2, 8, candidate(398.0, 9_000_000)),
            with(1, 4, candidate(320.0, 4_000_000)),
            with(1, 1, Candidate { standing: Standing::Slower, ..candidate(250.0, 2_000_000) }),
        ];
        let estimate = |value: f64| Estimate { value, lower: value * 0.98, upper: value * 1.02 };
        Ranking {
            scores: candidates.iter().map(|c| c.throughput_inferences_per_s.map(|e| e.value)).collect(),
            candidates,
            winner: Some(0),
            runner_up: Some(Comparison { candidate: 1, ratio: estimate(1.005) }),
            baseline: Some(Comparison { candidate: 3, ratio: estimate(1.6) }),
        }
    }

    #[test]
    fn the_verdict_compares_and_claims_no_causes() {
        assert_eq!(
            verdict(&ranking(), &Limits::default(), None, None),
            "2 streams x batch 4, 1 thread per stream: 400 inferences/s, 1.60 times (1.57 to 1.63) one stream at the \
             smallest batch; 2 streams x batch 8, 1 thread per stream is as fast within 1 % and takes 9.00 ms for a \
             request instead of 5.00 ms (medians); \
             the same with 1 stream reaches 80 %, at batch 8 is as fast"
        );
    }

    #[test]
    fn smaller_executions_follow_from_the_batch_and_are_no_difference_of_their_own() {
        let mut ranking = ranking();
        for candidate in &mut ranking.candidates {
            candidate.configuration = candidate.configuration.for_requests_of(1);
        }
        let text = verdict(&ranking, &Limits::default(), None, None);
        assert!(text.ends_with("the same with 1 stream reaches 80 %, at batch 8 is as fast"), "{text}");
    }

    #[test]
    fn one_stream_is_the_best_that_the_cores_make_of_it() {
        let mut ranking = ranking();
        let with_both_cores = Candidate {
            configuration: Configuration { threads_per_stream: 2, ..ranking.candidates[2].configuration },
            ..candidate(360.0, 3_000_000)
        };
        ranking.candidates.push(with_both_cores);
        ranking.scores.push(Some(360.0));
        let text = verdict(&ranking, &Limits::default(), None, None);
        assert!(text.contains("the same with 1 stream of 2 threads reaches 90 %, at batch 8"), "{text}");
    }

    #[test]
    fn one_that_sleeps_says_what_it_spares() {
        let mut ranking = ranking();
        let runner_up = ranking.runner_up.as_mut().unwrap();
        runner_up.ratio = Estimate { value: 0.992, lower: 0.989, upper: 0.995 };
        ranking.candidates[runner_up.candidate].configuration.wait = Wait::Spin;
        let text = verdict(&ranking, &Limits::default(), None, None);
        assert!(text.contains("is about as fast and keeps a core of the host busy; "), "{text}");
    }

    #[test]
    fn its_throughput_is_the_confirmed_one() {
        let confirmed = Estimate { value: 512.0, lower: 500.0, upper: 524.0 };
        let text = verdict(&ranking(), &Limits::default(), None, Some(confirmed));
        assert!(
            text.starts_with("2 streams x batch 4, 1 thread per stream: 512 inferences/s, 1.60 times"),
            "{text}"
        );
    }

    #[test]
    fn a_tie_that_noise_hides_is_no_more_than_that() {
        let mut ranking = ranking();
        let ratio = Estimate { value: 0.99, lower: 0.82, upper: 1.18 };
        ranking.runner_up = Some(Comparison { candidate: 1, ratio });
        let text = verdict(&ranking, &Limits::default(), None, None);
        let clause = "2 streams x batch 8, 1 thread per stream may be faster or slower (85 % to 122 % of it) and takes \
                      9.00 ms for a request instead of 5.00 ms (medians)";
        assert!(text.contains(clause), "{text}");
    }

    #[test]
    fn more_streams_gain_little_only_where_the_winner_has_as_many_as_fill_something() {
        let full_from = |streams| Curve::through(&[(1, 250.0, 0.5), (streams, 400.0, 0.97)]);
        let text = |curve| verdict(&ranking(), &Limits::default(), Some(&curve), None);
        let clause = "more streams gain little because DRAM is full from 2 streams on (predicted)";
        assert!(text(full_from(2)).ends_with(clause), "{}", text(full_from(2)));
        assert!(!text(full_from(8)).contains("gain little"), "{}", text(full_from(8)));
        // Something always at work with one stream is not full where eight are faster by more than half.
        let busy = Curve::through(&[(1, 250.0, 0.95), (8, 400.0, 1.0)]);
        assert!(!text(busy.clone()).contains("gain little"), "{}", text(busy));
    }

    #[test]
    fn a_runner_up_that_is_no_slower_to_answer_cannot_be_told_apart() {
        let mut ranking = ranking();
        ranking.candidates[1].latency = ranking.candidates[0].latency;
        let text = verdict(&ranking, &Limits::default(), None, None);
        assert!(text.contains("batch 8, 1 thread per stream cannot be told apart from it"), "{text}");
    }

    #[test]
    fn the_verdict_says_whether_the_limit_is_kept() {
        let limits = Limits { p99: Some(Nanos(20_000_000)), memory_bytes: None };
        let mut ranking = ranking();
        let text = verdict(&ranking, &limits, None, None);
        assert!(text.contains("it keeps the p99 limit of 20.0 ms, 100 records"), "{text}");
        ranking.candidates[0].compliance = Compliance::Unproven;
        let text = verdict(&ranking, &limits, None, None);
        assert!(text.contains("that it keeps the p99 limit of 20.0 ms is not proven, 100 records"), "{text}");
    }

    #[test]
    fn where_nobody_wins_the_closest_is_named() {
        let mut ranking = Ranking { winner: None, runner_up: None, baseline: None, ..ranking() };
        for candidate in &mut ranking.candidates {
            candidate.compliance = Compliance::Breaks;
            candidate.standing = Standing::OverLimit;
        }
        let limits = Limits { p99: Some(Nanos(1_000_000)), memory_bytes: None };
        assert_eq!(
            verdict(&ranking, &limits, None, None),
            "no configuration keeps the p99 limit of 1.00 ms; 1 stream x batch 1, \
             1 thread per stream comes closest with latencies up to 2.00 ms"
        );
    }
}

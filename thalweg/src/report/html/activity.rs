//! The timeline of single kernels and calls: its data in a form that takes little room, drawn by `activity.js`.
//!
//! Numbers of pieces go into one text: LEB128 in base64, six to eight letters a piece where JSON takes thirty.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::report::lanes::{Group, Lane, Lanes, Name};
use crate::report::wording;
use crate::units::Nanos;

/// What the template shows.
#[derive(Serialize)]
pub(super) struct Activity {
    heading: &'static str,
    caption: String,
    /// JSON that can stand in a script element.
    data: String,
}

impl Activity {
    pub(super) fn of(lanes: &Lanes, heading: &'static str) -> Self {
        Self { heading, caption: caption(lanes), data: data(lanes) }
    }
}

fn caption(lanes: &Lanes) -> String {
    let count: usize = lanes.lanes.iter().map(|lane| lane.pieces.len()).sum();
    let mut text = format!("{} pieces in {}.", wording::count(count), lanes.span.duration());
    if lanes.pieces_left_out > 0 {
        text += &format!(" {} earlier ones are not shown.", wording::count(lanes.pieces_left_out));
    }
    if lanes.lanes_left_out > 0 {
        text +=
            &format!(" {} lanes with no more in them are not shown.", wording::count(lanes.lanes_left_out));
    }
    if lanes.lanes.iter().any(|lane| lane.group == Group::Stages) {
        text += " Stages are told by events and the rest by CUPTI, so both agree to some ten microseconds.";
    }
    text
}

fn data(lanes: &Lanes) -> String {
    let mut bytes = Vec::new();
    let threads = threads(lanes);
    lanes.lanes.iter().for_each(|lane| put_lane(lane, lanes.span.start, &threads, &mut bytes));
    let names: Vec<Value> = lanes.names.iter().map(name).collect();
    let heads: Vec<Value> = lanes
        .lanes
        .iter()
        .map(|lane| json!({ "group": group(lane.group), "label": lane.label, "count": lane.pieces.len() }))
        .collect();
    let gauges: Vec<Value> = lanes
        .gauges
        .iter()
        .map(|line| {
            let points = line.points.iter().map(|(at, part)| ((*at - lanes.span.start).0, part));
            json!({ "label": line.label, "highest": line.highest, "points": points.collect::<Vec<_>>() })
        })
        .collect();
    let data = json!({
        "span_ns": lanes.span.duration().0, "lanes": heads, "names": names, "gauges": gauges,
        "pieces": base64(&bytes),
    });
    // Nothing in it may end the element that it stands in.
    data.to_string().replace('<', "\\u003c")
}

fn name(name: &Name) -> Value {
    json!({ "text": wording::printable(&name.text), "class": name.class })
}

fn group(group: Group) -> &'static str {
    match group {
        Group::Stages => "stages",
        Group::Streams => "streams",
        Group::Thread(_) => "threads",
    }
}

/// Where the lane of each thread is.
fn threads(lanes: &Lanes) -> HashMap<u32, usize> {
    let place = |(place, lane): (usize, &Lane)| match lane.group {
        Group::Thread(thread) => Some((thread, place)),
        Group::Stages | Group::Streams => None,
    };
    lanes.lanes.iter().enumerate().filter_map(place).collect()
}

/// Each piece: from the start before it to its own, its length, its name, and the lane of its call, counted from 1, with
/// how long ago that began; 0 where it has none.
fn put_lane(lane: &Lane, start: Nanos, threads: &HashMap<u32, usize>, bytes: &mut Vec<u8>) {
    let mut before = start;
    for piece in &lane.pieces {
        put(bytes, (piece.span.start - before).0);
        before = piece.span.start;
        put(bytes, piece.span.duration().0);
        put(bytes, piece.name as u64);
        match piece.caller.and_then(|(thread, at)| Some((threads.get(&thread)?, at))) {
            Some((lane, at)) => {
                put(bytes, *lane as u64 + 1);
                put(bytes, (piece.span.start - at).0);
            }
            None => put(bytes, 0),
        }
    }
}

/// LEB128.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        bytes.push(number.to_le_bytes()[0] | 128);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|place| three.get(place).copied().unwrap_or(0));
        let number = u32::from_be_bytes([0, a, b, c]);
        for place in 0..4_usize {
            let letter = LETTERS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::naive;

    #[test]
    fn bytes_are_written_as_others_read_them() {
        // RFC 4648, section 10.
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        let mut bytes = Vec::new();
        put(&mut bytes, 624_485);
        assert_eq!(bytes, [0xE5, 0x8E, 0x26], "the example of the DWARF standard");
    }

    /// Numbers as `activity.js` takes them out again.
    fn numbers(bytes: &[u8]) -> Vec<u64> {
        let (mut numbers, mut number, mut shift) = (Vec::new(), 0, 0);
        for byte in bytes {
            number |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte < &128 {
                numbers.push(number);
                (number, shift) = (0, 0);
            }
        }
        numbers
    }

    #[test]
    fn a_piece_is_where_it_ran_and_names_the_lane_and_the_moment_of_its_call() {
        let lanes = Lanes::of_program(&naive(1).program(), None).unwrap();
        let mut bytes = Vec::new();
        put_lane(&lanes.lanes[0], lanes.span.start, &threads(&lanes), &mut bytes);
        let names: Vec<_> = lanes.names.iter().map(|name| name.text.as_str()).collect();
        assert_eq!(names[..2], ["copy H2D", "gemm"]);
        // The copy starts with its call; the kernel 1.02 ms later, 10 us after its call began. Calls are in lane 1.
        assert_eq!(numbers(&bytes), [0, 1_000_000, 0, 2, 0, 1_020_000, 500_000, 1, 2, 10_000]);
    }

    #[test]
    fn a_hostile_name_cannot_end_the_script_that_it_stands_in() {
        let mut lanes = Lanes::of_program(&naive(1).program(), None).unwrap();
        lanes.names[0].text = "</script><script>alert(1)</script>\u{1b}".to_owned();
        let text = data(&lanes);
        assert!(!text.contains('<'), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["names"][0]["text"], "</script><script>alert(1)</script> ");
        assert_eq!(read["span_ns"], Nanos(1_525_000).0);
    }
}

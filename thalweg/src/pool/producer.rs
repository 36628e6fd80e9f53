//! The way in: a producer reserves room in a slot, fills it in place, and commits it.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytemuck::Pod;
use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::response::Response;
use super::scheduler::Refusal;
use super::state::PoolState;
use super::submitter::Message;
use crate::backend::{HostCopy, Slot, SlotId};
use crate::error::{Error, Result};
use crate::model::Signature;
use crate::units::{Clock, Nanos};

/// What a submitter answers a reservation with: a slot that goes back where it came from unless it is committed,
/// also if nobody ever reads the answer.
pub(super) struct Granted {
    slot: Option<Slot>,
    /// Samples that are in the slot already.
    offset: usize,
    home: Sender<Message>,
}

impl Granted {
    pub(super) fn new(slot: Slot, offset: usize, home: Sender<Message>) -> Self {
        Self { slot: Some(slot), offset, home }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            // The submitter waits for every slot that is out, so it is still there.
            drop(self.home.send(Message::Abandon { slot }));
        }
    }
}

/// What the pool keeps of a request until it is answered.
pub(super) struct Request {
    pub(super) sequence: u64,
    pub(super) tag: u64,
    pub(super) samples: Range<usize>,
    pub(super) intended: Nanos,
    pub(super) submitted: Nanos,
}

/// A submitter, as producers see it.
#[derive(Clone)]
pub(super) struct SubmitterAddress {
    pub(super) sender: Sender<Message>,
    pub(super) outstanding: Arc<AtomicUsize>,
    /// Requests that wait for room there.
    pub(super) waiting: Arc<AtomicUsize>,
    /// Of something that it has as long as it lives.
    pub(super) life: Weak<()>,
}

/// Both ends of the way that an answer takes.
type Reply = (Sender<Answer>, Receiver<Answer>);

type Answer = Result<Granted, Refusal>;

/// Ways that were used and are empty again, so that asking does not allocate. Any thread takes and returns them.
pub(super) struct SpareReplies(Sender<Reply>, Receiver<Reply>);

impl SpareReplies {
    /// So many are kept: more threads seldom ask at once.
    const MOST: usize = 64;

    pub(super) fn new() -> Self {
        let (returned, taken) = bounded(Self::MOST);
        Self(returned, taken)
    }

    fn take(&self) -> Reply {
        self.1.try_recv().unwrap_or_else(|_| bounded(1))
    }

    fn put(&self, reply: Reply) {
        // One too many is dropped.
        let _ = self.0.try_send(reply);
    }
}

/// What all producers of a pool share.
pub(super) struct Entrance {
    pub(super) submitters: Vec<SubmitterAddress>,
    pub(super) next_sequence: AtomicU64,
    pub(super) signature: Signature,
    pub(super) batch_size: usize,
    pub(super) queue_capacity: usize,
    /// Requests that a submitter may have unanswered: with more, its inbox could be full.
    pub(super) most_outstanding: usize,
    pub(super) spare_replies: SpareReplies,
    /// Held by whoever asks for the pool's state.
    pub(super) watching: Mutex<()>,
    pub(super) executor_count: usize,
    pub(super) clock: Clock,
    /// Whether somebody has asked for the end, for those who need not ask a submitter for room.
    pub(super) is_stopping: AtomicBool,
}

impl Entrance {
    /// Tells every submitter to accept nothing new.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for submitter in &self.submitters {
            // It fails only if the submitter has ended already.
            drop(submitter.sender.send(Message::Stop));
        }
    }
}

/// Puts requests into a pool. Cloning is cheap, and any thread may use it.
#[derive(Clone)]
pub struct Producer {
    entrance: Arc<Entrance>,
}

impl Producer {
    pub(super) fn new(entrance: Arc<Entrance>) -> Self {
        Self { entrance }
    }

    /// Whether the pool's executors have something to run, as [`ExecutionPool::state`](super::ExecutionPool::state): who
    /// puts in requests learns by it whether the device waits for them.
    pub fn state(&self) -> PoolState {
        self.entrance.state()
    }

    /// Room for some samples in a slot. Waits until there is room: this is the pool's back-pressure.
    ///
    /// Commit or drop a reservation soon: samples of other requests may wait in the same slot.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for 0 samples or more than the batch size, [`Error::QueueFull`] if
    /// too many producers wait, [`Error::Stopped`], [`Error::NoExecutor`].
    pub fn reserve(&self, samples: usize) -> Result<Reservation> {
        self.request(samples)?.wait()
    }

    /// The first half of [`reserve`](Self::reserve): asks, and does not wait for the answer. Who asks for a whole
    /// slot before there is something to fill it with saves the way to the submitter and back.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve), as far as it is known at once.
    pub fn request(&self, samples: usize) -> Result<RoomRequest> {
        let entrance = &self.entrance;
        if !(1..=entrance.batch_size).contains(&samples) {
            return Err(Error::InvalidSetting {
                name: "samples",
                value: samples.to_string(),
                reason: format!("a request has 1 to {} samples, the batch size", entrance.batch_size),
            });
        }
        let submitter = self.least_busy();
        if submitter.outstanding.fetch_add(1, Ordering::Relaxed) >= entrance.most_outstanding {
            submitter.outstanding.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::QueueFull { capacity: entrance.queue_capacity });
        }
        let way = entrance.spare_replies.take();
        let reply = way.0.clone();
        submitter.sender.send(Message::Reserve { samples, reply }).map_err(|_| Error::Stopped)?;
        let life = Weak::clone(&submitter.life);
        Ok(RoomRequest {
            samples,
            way: Some(way),
            is_answered: Cell::new(false),
            life,
            entrance: Arc::clone(entrance),
        })
    }

    /// Room in the slot that a response was in, at once and without a way to the submitter and back: whoever has read its
    /// outputs has the slot already. The inputs are as they were, so what stays the same need not be written again.
    ///
    /// `None`, and the slot goes home as if the response had been dropped, where its request had not the whole slot, other
    /// requests wait for room, its stream is lost, or the pool is being stopped. A request that gets its room in the very
    /// moment of a stop may get no answer.
    pub fn refill(&self, response: Response) -> Option<Reservation> {
        let samples = 0..self.entrance.batch_size;
        let mut submitters = self.entrance.submitters.iter();
        let submitter = submitters.find(|it| response.is_from(&it.sender))?;
        let may_stay = response.samples() == samples
            && !response.has_lost_its_stream()
            && !self.entrance.is_stopping.load(Ordering::Relaxed)
            && submitter.waiting.load(Ordering::Relaxed) == 0;
        let (slot, shell) = may_stay.then(|| response.into_slot()).flatten()?;
        submitter.outstanding.fetch_add(1, Ordering::Relaxed);
        // Where the submitter is gone, so is the pool.
        submitter.sender.send(Message::Refill { id: slot.id, shell }).ok()?;
        let granted = Granted::new(slot, 0, submitter.sender.clone());
        Some(Reservation { granted, samples, entrance: Arc::clone(&self.entrance) })
    }

    fn least_busy(&self) -> &SubmitterAddress {
        let submitters = self.entrance.submitters.iter();
        let least = submitters.min_by_key(|submitter| submitter.outstanding.load(Ordering::Relaxed));
        least.expect("bug: a pool has at least one submitter")
    }
}

/// How often who waits for an answer looks whether the submitter is still there. It is gone without a word only where
/// a pool is stopped at that moment.
const LIFE_CHECK: Duration = Duration::from_millis(100);

/// What came first to somebody who has asked for room.
pub(crate) enum Came<T> {
    /// Room, or why there is none.
    Answer(Result<Reservation>),
    /// Something else; `None` where nothing more comes.
    Other(Option<T>),
}

/// A wish for room that was sent to a submitter.
pub struct RoomRequest {
    samples: usize,
    /// `None` while it is dropped.
    way: Option<Reply>,
    is_answered: Cell<bool>,
    life: Weak<()>,
    entrance: Arc<Entrance>,
}

impl RoomRequest {
    /// Waits for the answer.
    ///
    /// # Errors
    /// As [`Producer::reserve`].
    pub fn wait(self) -> Result<Reservation> {
        loop {
            if let Ok(answer) = self.answers().recv_timeout(LIFE_CHECK) {
                return self.accept(answer);
            }
            if let Some(last) = self.last_word() {
                return last;
            }
        }
    }

    /// Waits for the answer or for something else, whichever comes first.
    pub(crate) fn wait_beside<T>(&self, other: &Receiver<T>) -> Came<T> {
        loop {
            select! {
                recv(self.answers()) -> answer => {
                    let answer = answer.expect("bug: we hold the other end ourselves");
                    return Came::Answer(self.accept(answer));
                }
                recv(other) -> it => return Came::Other(it.ok()),
                default(LIFE_CHECK) => {}
            }
            if let Some(last) = self.last_word() {
                return Came::Answer(last);
            }
        }
    }

    /// What there is once the submitter is gone; `None` while it is there. Its answer may have come just now.
    fn last_word(&self) -> Option<Result<Reservation>> {
        (self.life.strong_count() == 0).then(|| self.try_take().unwrap_or(Err(Error::Stopped)))
    }

    /// The answer, once there is one.
    ///
    /// # Errors
    /// As [`Producer::reserve`].
    pub fn try_take(&self) -> Option<Result<Reservation>> {
        self.answers().try_recv().ok().map(|answer| self.accept(answer))
    }

    fn answers(&self) -> &Receiver<Answer> {
        &self.way.as_ref().expect("bug: it leaves when the request is dropped").1
    }

    fn accept(&self, answer: Answer) -> Result<Reservation> {
        self.is_answered.set(true);
        let entrance = &self.entrance;
        match answer {
            Ok(granted) => Ok(Reservation {
                samples: granted.offset..granted.offset + self.samples,
                granted,
                entrance: Arc::clone(entrance),
            }),
            Err(Refusal::QueueFull) => Err(Error::QueueFull { capacity: entrance.queue_capacity }),
            Err(Refusal::Stopped) => Err(Error::Stopped),
            Err(Refusal::NoExecutor) => Err(Error::NoExecutor { executor_count: entrance.executor_count }),
        }
    }
}

impl Drop for RoomRequest {
    fn drop(&mut self) {
        // A way on which an answer may still come is of no use to another request.
        let way = self.way.take().filter(|_| self.is_answered.get());
        way.into_iter().for_each(|way| self.entrance.spare_replies.put(way));
    }
}

/// Room for a request's samples in a slot. Dropping it without committing gives the room back.
pub struct Reservation {
    granted: Granted,
    samples: Range<usize>,
    entrance: Arc<Entrance>,
}

impl Reservation {
    /// The slot that the room is in.
    pub fn slot(&self) -> SlotId {
        self.granted.slot.as_ref().expect("bug: the slot leaves with the reservation").id
    }

    /// The samples of the slot's batch that are this request's.
    pub fn samples(&self) -> Range<usize> {
        self.samples.clone()
    }

    /// The bytes of an input, to be filled: of this request's samples, `[samples, ...]`, or of the whole
    /// tensor where it has no batch dimension. They hold whatever was there before.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] where no input has this name.
    pub fn input(&mut self, name: &str) -> Result<&mut [u8]> {
        let index = self.entrance.signature.input_index(name)?;
        Ok(self.input_at(index))
    }

    /// As [`input`](Self::input), by its position in [`Signature::inputs`].
    ///
    /// # Panics
    /// Where there is no such input.
    pub fn input_at(&mut self, index: usize) -> &mut [u8] {
        let slot = self.granted.slot.as_mut().expect("bug: the slot leaves with the reservation");
        slot.inputs[index].samples_mut(self.samples.clone())
    }

    /// Copies an input, of this request's samples, in the way that suits the device that reads it. That is quicker
    /// for a GPU than ordinary stores through [`input`](Self::input): see [`HostCopy`].
    ///
    /// # Errors
    /// [`Error::UnknownTensor`] where no input has this name.
    ///
    /// # Panics
    /// Where `bytes` are not as many as the samples have.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let index = self.entrance.signature.input_index(name)?;
        self.host_copy_at(index).copy(self.input_at(index), bytes);
        Ok(())
    }

    /// How the bytes of an input are best written, by its position in [`Signature::inputs`].
    ///
    /// # Panics
    /// Where there is no such input.
    pub fn host_copy_at(&self, index: usize) -> HostCopy {
        let slot = self.granted.slot.as_ref().expect("bug: the slot leaves with the reservation");
        slot.inputs[index].host_copy()
    }

    /// As [`input`](Self::input), seen as elements of type `T`.
    ///
    /// # Errors
    /// [`Error::UnknownTensor`], and [`Error::DataTypeMismatch`] where elements have another size.
    pub fn input_as<T: Pod>(&mut self, name: &str) -> Result<&mut [T]> {
        let index = self.entrance.signature.input_index(name)?;
        let data_type = self.entrance.signature.inputs[index].data_type;
        if size_of::<T>() != data_type.byte_count() {
            return Err(Error::DataTypeMismatch {
                tensor: name.to_owned(),
                expected: data_type.to_string(),
                got: std::any::type_name::<T>().to_owned(),
            });
        }
        Ok(bytemuck::cast_slice_mut(self.input_at(index)))
    }

    /// Hands the filled samples to the pool. `tag` is the caller's own and comes back with the response.
    /// Returns the request's place in the order of submission.
    pub fn commit(self, tag: u64) -> u64 {
        let now = self.entrance.clock.now();
        self.commit_intended(tag, now)
    }

    /// As [`commit`](Self::commit), for a request that was meant to be sent at `intended`: its latency
    /// counts from there.
    pub fn commit_intended(mut self, tag: u64, intended: Nanos) -> u64 {
        let sequence = self.entrance.next_sequence.fetch_add(1, Ordering::Relaxed);
        let submitted = self.entrance.clock.now();
        let request = Request { sequence, tag, samples: self.samples.clone(), intended, submitted };
        let slot = self.granted.slot.take().expect("bug: the slot leaves with the reservation");
        // The submitter waits for every slot that is out, so it is still there.
        drop(self.granted.home.send(Message::Commit { slot, request }));
        sequence
    }
}

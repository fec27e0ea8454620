//! A reader of pickles that can build plain data and nothing else.
//!
//! A pickle is a program for a stack machine, and two of its instructions fetch and call any
//! Python function. Here they know the four names that a file of weights needs; every other name
//! ends the reading with an error that says it. Nothing is ever called: even those four are only
//! words for building an [`Object`].
//!
//! Objects live in one list and refer to each other by index. So a pickle that nests them a
//! million deep, or in a circle, costs no stack and leaks nothing.
//!
//! The crate `pytorch-reader` (0.22) runs nothing either, but leaves out what it does not know, without a
//! word of the function that a pickle names, and 90 MB of pickle cost it 15 GB and 53 s.

use std::collections::HashMap;

use super::names::Name;

/// Most objects. A checkpoint's pickle makes some 20 for each tensor.
const MAX_OBJECTS: usize = 1_000_000;

/// Place of an object in [`Pickle::objects`].
pub(super) type Id = u32;

/// What a pickle can build.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// Keys and values in the order of their insertion.
    Dict(Vec<(Id, Id)>),
    /// A name that may be called or stand for a type of storage.
    Name(Name),
    /// `persistent_load(argument)`: numbers that lie elsewhere in the archive.
    Storage(Id),
    /// `torch._utils._rebuild_tensor_v2(*arguments)`.
    Tensor(Id),
}

/// The objects of a pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) objects: Vec<Object<'a>>,
    /// The object that the pickle is.
    pub(super) root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle of protocol 2 or later.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            input: bytes,
            objects: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        loop {
            if let Some(root) = machine.step()? {
                return Ok(Self { objects: machine.objects, root });
            }
        }
    }

    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        // Ids are made by `Machine::push` alone, so there is an object; but a panic is worse.
        self.objects.get(id as usize).unwrap_or(&Object::None)
    }
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    input: &'a [u8],
    objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks that are set.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction. Returns the root at the last one.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            // A frame's length: for readers that read ahead.
            0x95 => self.take(8).map(drop)?,
            b'(' => self.marks.push(self.stack.len()),
            opcode @ (b'q' | b'r' | 0x94 | b'h' | b'j') => self.memoize_or_recall(opcode)?,
            opcode @ (b's' | b'u' | b'a' | b'e' | b'b') => self.fill(opcode)?,
            opcode @ (b't' | 0x85..=0x87) => self.tuple(opcode)?,
            opcode @ (b'c' | 0x93) => self.name(opcode)?,
            b'R' => self.call()?,
            b'Q' => {
                let argument = self.pop()?;
                self.push(Object::Storage(argument))?;
            }
            opcode => {
                let object = self.constant(opcode)?;
                self.push(object)?;
            }
        }
        Ok(None)
    }

    fn constant(&mut self, opcode: u8) -> Result<Object<'a>, String> {
        Ok(match opcode {
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'K' => Object::Int(self.number(1)?),
            b'M' => Object::Int(self.number(2)?),
            b'J' => Object::Int(self.number(4)? as i32 as i64),
            0x8a => Object::Int(self.long()?),
            b'G' => self.take(8).map(|_| Object::Float)?,
            b'X' => Object::Text(self.text(4)?),
            0x8c => Object::Text(self.text(1)?),
            b'}' => Object::Dict(Vec::new()),
            b']' => Object::List(Vec::new()),
            b')' => Object::Tuple(Vec::new()),
            other => return Err(format!("its pickle has the instruction 0x{other:02x}, {ALIEN}")),
        })
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("its pickle is of protocol {other}, expected 2 to 5")),
        }
    }

    fn memoize_or_recall(&mut self, opcode: u8) -> Result<(), String> {
        let key = match opcode {
            b'q' | b'h' => self.number(1)?,
            b'r' | b'j' => self.number(4)?,
            _ => self.memo.len() as i64,
        } as u32;
        if matches!(opcode, b'h' | b'j') {
            let missing = || format!("its pickle recalls object {key}, which it never stored");
            self.stack.push(*self.memo.get(&key).ok_or_else(missing)?);
        } else {
            let top = *self.stack.last().ok_or_else(underflow)?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    /// Adds what is on the stack to the container below it.
    fn fill(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b's' => self.pop_many(2)?,
            b'a' | b'b' => self.pop_many(1)?,
            _ => self.pop_to_mark()?,
        };
        let container = *self.stack.last().ok_or_else(underflow)? as usize;
        match (opcode, self.objects.get_mut(container)) {
            (b's' | b'u', Some(Object::Dict(entries))) if items.len() % 2 == 0 => {
                entries.extend(items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)));
            }
            (b'a' | b'e', Some(Object::List(list))) => list.extend(items),
            // The attributes of an OrderedDict: versions of modules, which nothing here needs.
            (b'b', Some(Object::Dict(_))) => {}
            _ => return Err("its pickle fills something that is not a container".to_owned()),
        }
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b't' => self.pop_to_mark()?,
            fixed => self.pop_many(usize::from(fixed - 0x84))?,
        };
        self.push(Object::Tuple(items))
    }

    fn name(&mut self, opcode: u8) -> Result<(), String> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let name = self.pop_text()?;
            (self.pop_text()?, name)
        };
        let known = Name::find(module, name).ok_or_else(|| {
            let asked: String = format!("{module}.{name}").chars().take(200).collect();
            format!("its pickle asks for {asked:?}, {ALIEN}")
        })?;
        self.push(Object::Name(known))
    }

    /// Stands for a call: takes its arguments and the name, and leaves what the call would make.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, name) = (self.pop()?, self.pop()?);
        let list = match self.objects.get(arguments as usize) {
            Some(Object::Tuple(list)) => list,
            _ => return Err("its pickle calls without a tuple of arguments".to_owned()),
        };
        let made = match (self.objects.get(name as usize), list.as_slice()) {
            (Some(Object::Name(Name::OrderedDict)), []) => Object::Dict(Vec::new()),
            (Some(Object::Name(Name::RebuildTensor)), _) => Object::Tensor(arguments),
            // A parameter is its tensor.
            (Some(Object::Name(Name::RebuildParameter)), [tensor, ..]) => {
                self.stack.push(*tensor);
                return Ok(());
            }
            _ => return Err(format!("its pickle calls what makes no tensor, {ALIEN}")),
        };
        self.push(made)
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), String> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(format!("its pickle has more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    /// What is above the last mark belongs to it, so the stack ends there.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= floor => Ok(self.stack.split_off(height)),
            _ => Err(underflow()),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.pop_many(1).map(|ids| ids[0])
    }

    fn pop_text(&mut self) -> Result<&'a str, String> {
        let id = self.pop()?;
        match self.objects.get(id as usize) {
            Some(Object::Text(text)) => Ok(text),
            _ => Err("its pickle asks for a name that is not text".to_owned()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let cut = || "its pickle is cut short".to_owned();
        let (head, tail) = self.input.split_at_checked(length).ok_or_else(cut)?;
        self.input = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A little-endian number of at most 4 bytes.
    fn number(&mut self, length: usize) -> Result<i64, String> {
        let bytes = self.take(length)?.iter().rev();
        Ok(bytes.fold(0, |number, byte| number << 8 | i64::from(*byte)))
    }

    /// A little-endian number with a sign, of as many bytes as the first one says.
    fn long(&mut self) -> Result<i64, String> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        if length > 8 {
            return Err(format!("its pickle has a number of {length} bytes"));
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        Ok(bytes.iter().rev().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
    }

    fn text(&mut self, size_of_length: usize) -> Result<&'a str, String> {
        let length = self.number(size_of_length)?;
        let bytes = self.take(length as usize)?;
        std::str::from_utf8(bytes).map_err(|_| "its pickle has a text that is not UTF-8".to_owned())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or("its pickle is cut short")? + 1)?;
        std::str::from_utf8(&line[..line.len() - 1])
            .map_err(|_| "its pickle has a name that is not UTF-8".to_owned())
    }
}

/// What becomes of a pickle that is more than weights.
const ALIEN: &str = "which has no place in a file of weights; nothing of it was run. If you trust \
                     the file, convert it to model.safetensors with Python";

fn underflow() -> String {
    "its pickle takes more from the stack than is there".to_owned()
}

//! The native half: texts, and what the library makes of them.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use warmpath_tokenizer::{Encoder, compile, corpus, verify};

pub(crate) fn record(json: &str, out: &str, files: &[&str]) -> ExitCode {
    let json = std::fs::read(json).expect("tokenizer.json");
    let started = Instant::now();
    let table = match compile(&json) {
        Ok(table) => table,
        Err(error) => {
            println!("refused: {error}");
            return ExitCode::FAILURE;
        }
    };
    let compiled = started.elapsed();
    let mut library = tokenizers::Tokenizer::from_bytes(&json).expect("the library reads it");
    library.with_truncation(None).expect("no truncation");
    let reference = |text: &str| -> Vec<u32> {
        library.encode_fast(text, false).expect("the library encodes").get_ids().to_vec()
    };
    let size = table.as_bytes().len();
    std::fs::create_dir_all(out).expect("the output folder");
    std::fs::write(Path::new(out).join("table"), table.as_bytes()).expect("table");
    let encoder = Encoder::new(table);
    let started = Instant::now();
    match verify(&encoder, &[], reference) {
        Ok(texts) => println!("verified on {texts} texts in {:?}", started.elapsed()),
        Err(mismatch) => println!("{mismatch}"),
    }
    let specials: Vec<String> =
        library.get_added_tokens_decoder().values().map(|token| token.content.clone()).collect();
    let texts = texts(files, &specials);
    let mut cases = Vec::new();
    let (mut differ, mut bytes) = (0, 0);
    let mut ids = Vec::new();
    for text in &texts {
        ids.clear();
        encoder.encode(text, &mut ids);
        let expected = reference(text);
        bytes += text.len();
        if ids != expected {
            differ += 1;
            if differ <= 5 {
                let at = ids.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                let near = |ids: &[u32]| ids[at.saturating_sub(2)..ids.len().min(at + 8)].to_vec();
                println!("at {at}: {:?} not {:?}", near(&ids), near(&expected));
                println!("  {:?}", library.decode(&near(&expected), false));
                println!("  in {:?}", text.chars().take(60).collect::<String>());
            }
        }
        let expected: Vec<u8> = expected.iter().flat_map(|id| id.to_le_bytes()).collect();
        for content in [text.as_bytes(), &expected] {
            cases.extend((content.len() as u32).to_le_bytes());
            cases.extend(content);
        }
    }
    std::fs::write(Path::new(out).join("cases"), cases).expect("cases");
    println!(
        "{} texts, {bytes} bytes: {differ} differ; table {size} bytes, compiled in {compiled:?}",
        texts.len()
    );
    if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }

    fn pick<'p>(&mut self, pool: &'p [String]) -> &'p str {
        &pool[self.below(pool.len())]
    }
}

fn texts(files: &[&str], specials: &[String]) -> Vec<String> {
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let mut texts = corpus();
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(file).expect("a text file")).into_owned();
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let end = chars.len().min(at + 100 + random.below(4000));
            texts.push(chars[at..end].iter().collect());
            at = end;
        }
    }
    sweep(&mut texts);
    let pool = fragments(&texts, &mut random);
    for i in 0..3000 {
        let mut text = String::new();
        for _ in 0..3 + random.below(60) {
            match random.below(12) {
                0 => text.push_str(random.pick(specials)),
                1 => text.push_str(&scalars(&mut random, i)),
                2 => text.push_str(&" ".repeat(random.below(6))),
                3 => text.push('\n'),
                _ => text.push_str(random.pick(&pool)),
            }
        }
        texts.push(text);
    }
    for _ in 0..500 {
        let special = random.pick(specials).to_owned();
        let (a, b) = (random.pick(&pool).to_owned(), random.pick(&pool).to_owned());
        texts.push(format!("{a}{special}{b} {special}  {a}{special}{special}\n{b}"));
    }
    for i in 0..300 {
        let unit = random.pick(&pool).to_owned();
        texts.push(unit.chars().take(1 + i % 3).collect::<String>().repeat(1 + random.below(900)));
        let letters: Vec<char> = pool[random.below(pool.len())].chars().collect();
        let word = (0..random.below(2000)).map(|_| letters[random.below(letters.len())]);
        texts.push(word.collect());
        let runs = (0..1 + random.below(5)).map(|_| {
            let at = random.below(letters.len().max(1));
            let unit: String = letters.iter().skip(at).take(1 + random.below(4)).collect();
            unit.repeat(1 + random.below(300))
        });
        texts.push(runs.collect());
    }
    texts
}

/// Every scalar value three times: in a row, between letters, and behind spaces.
fn sweep(texts: &mut Vec<String>) {
    let scalars: Vec<char> = (0..=0x10_FFFF).filter_map(char::from_u32).collect();
    for chunk in scalars.chunks(960) {
        texts.push(chunk.iter().collect());
        texts.push(chunk.iter().map(|c| format!("a{c}b")).collect());
        texts.push(chunk.iter().map(|c| format!(" {c}  {c}1")).collect());
    }
}

fn scalars(random: &mut Random, round: usize) -> String {
    const RANGES: &[(usize, usize)] = &[
        (0, 0x100),
        (0x100, 0x800),
        (0x800, 0x1000),
        (0x1000, 0x3000),
        (0x3000, 0x3200),
        (0x4E00, 0xA000),
        (0xAC00, 0xD7B0),
        (0x1F300, 0x1FA00),
        (0x300, 0x370),
        (0, 0x110000),
    ];
    let (from, to) = RANGES[(round + random.below(2)) % RANGES.len()];
    let count = 1 + random.below(12);
    (0..count).filter_map(|_| char::from_u32((from + random.below(to - from)) as u32)).collect()
}

/// Words and their surroundings, cut from the texts at hand.
fn fragments(texts: &[String], random: &mut Random) -> Vec<String> {
    let mut pool = Vec::new();
    for _ in 0..6000 {
        let text = &texts[random.below(texts.len().min(3000))];
        let skip = random.below(text.chars().count().max(1));
        let take = 1 + random.below(14);
        pool.push(text.chars().skip(skip).take(take).collect());
    }
    pool
}

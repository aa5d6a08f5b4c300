use engine::io::driver::Stable;
use engine::io::launch::{Launch, launch};
use engine::shell::pump::*;
use std::sync::Arc;
use std::sync::atomic::*;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn cpu(pid: u32) -> f64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let r = s.rsplit(')').next().unwrap();
    let f: Vec<&str> = r.split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let drv: engine::io::launch::DriverChoice = std::env::var("DRV").unwrap_or("uring".into()).parse().unwrap();
    let l = |core: usize| Launch { driver: drv, cores: vec![Some(core)] };
    match a[1].as_str() {
        "pump" => {
            let o = PumpOptions {
                listen: "127.0.0.1:4100".parse().unwrap(),
                sink: "127.0.0.1:4101".parse().unwrap(),
                frame_bytes: a[2].parse().unwrap(),
                folder: if a[3] == "-" { None } else { Some(a[3].clone().into()) },
                stable: Stable::Yes,
            };
            launch(&l(0), Pump(Arc::new(o))).unwrap().join().unwrap();
        }
        "sink" => {
            launch(&l(1), PumpSink { listen: "127.0.0.1:4101".parse().unwrap(), received_bytes: Default::default() })
                .unwrap()
                .join()
                .unwrap();
        }
        _ => {
            let bytes: usize = a[1].parse().unwrap();
            let conns: usize = a[2].parse().unwrap();
            let dir = std::env::temp_dir().join("pumpx");
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            let exe = std::env::current_exe().unwrap();
            let mut sink = std::process::Command::new(&exe).arg("sink").spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(300));
            let folder =
                if a.get(3).map(|s| s == "mem").unwrap_or(false) { "-".to_string() } else { dir.display().to_string() };
            let mut pump =
                std::process::Command::new(&exe).args(["pump", &bytes.to_string(), &folder]).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1000));
            let answered = Arc::new(AtomicU64::new(0));
            let stop = Arc::new(AtomicBool::new(false));
            let lat: Arc<std::sync::Mutex<Vec<u32>>> = Default::default();
            let r = launch(
                &l(1),
                PumpSource {
                    target: "127.0.0.1:4100".parse().unwrap(),
                    connections: conns,
                    frame_bytes: bytes,
                    answered: answered.clone(),
                    stop: stop.clone(),
                    latency_us: lat.clone(),
                },
            )
            .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1000));
            let (n0, c0, me0, s0) =
                (answered.load(Ordering::Relaxed), cpu(pump.id()), cpu(std::process::id()), cpu(sink.id()));
            let t = std::time::Instant::now();
            std::thread::sleep(std::time::Duration::from_secs(4));
            let (n1, c1, me1, s1) =
                (answered.load(Ordering::Relaxed), cpu(pump.id()), cpu(std::process::id()), cpu(sink.id()));
            let n = (n1 - n0) as f64;
            let dt = t.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            r.join().unwrap();
            let mut v = lat.lock().unwrap().clone();
            v.sort();
            println!(
                "{bytes} B x {conns}: {:.0}/s pump {:.2} us source {:.2} us sink {:.2} us busy {:.0}% p50 {} p99 {} us",
                n / dt,
                (c1 - c0) * 1e6 / n,
                (me1 - me0) * 1e6 / n,
                (s1 - s0) * 1e6 / n,
                (c1 - c0) / dt * 100.0,
                v[v.len() / 2],
                v[v.len() * 99 / 100]
            );
            pump.kill().unwrap();
            sink.kill().unwrap();
            pump.wait().unwrap();
            sink.wait().unwrap();
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

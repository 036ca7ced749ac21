use std::sync::{Arc,Mutex,Condvar,mpsc,RwLock};use std::sync::atomic::*;use std::thread;use std::process::Command;use std::io::*;use std::net::*;
fn rec(n:u64)->u64{ let b=[n;64]; if n==0 {0} else {1+rec(std::convert::identity(unsafe{std::ptr::read_volatile(&b[3])})-1)} }
fn main(){ let a=Arc::new(AtomicU64::new(0)); let m=Arc::new((Mutex::new(0u32),Condvar::new()));
 let h:Vec<_>=(0..6).map(|_|{let a=a.clone();let m=m.clone();thread::spawn(move||{for _ in 0..100000{a.fetch_add(1,Ordering::SeqCst);} *m.0.lock().unwrap()+=1; m.1.notify_all();})}).collect();
 {let mut g=m.0.lock().unwrap(); while *g<6 {g=m.1.wait(g).unwrap();}} for x in h{x.join().unwrap();} println!("atomic {}",a.load(Ordering::SeqCst));
 let u=Arc::new(AtomicU8::new(0)); thread::scope(|s|{for i in 0..4{let u=&u; s.spawn(move||{for _ in 0..1000{u.fetch_xor(1<<i,Ordering::AcqRel);u.fetch_max(1,Ordering::Relaxed);}});}}); println!("u8 ok");
 let (t,r)=mpsc::sync_channel(2); thread::spawn(move||for i in 0..1000u64{t.send(i).unwrap()}); println!("chan {}",r.iter().sum::<u64>());
 let l=TcpListener::bind("127.0.0.1:0").unwrap(); let p=l.local_addr().unwrap(); thread::spawn(move||{let (mut s,_)=l.accept().unwrap(); s.write_all(b"tcp").unwrap();}); let mut s=String::new(); TcpStream::connect(p).unwrap().read_to_string(&mut s).unwrap(); println!("{}",s);
 println!("{:?}",Command::new("sh").args(["-c","exit 7"]).status().unwrap().code());
 println!("i128 {} f {:?}",(u128::MAX/12345678901234567u128)%1000003,(0.1f64+0.2,(1e300f64*1e10) as i32,f32::NAN as u8,-5.5f64 as u32));
 println!("u {}",u64::MAX.wrapping_mul(12345).rotate_left(7)^(0xdeadbeefu64.leading_zeros() as u64));
 println!("thread stack {}",thread::Builder::new().stack_size(16<<20).spawn(||rec(20000)).unwrap().join().unwrap());
 let x=thread::spawn(||{let v:Vec<i32>=vec![];v[std::env::args().count()+2]}).join(); println!("panic {}",x.is_err()); let _=RwLock::new(0).read(); 
 println!("so {:?}",std::env::args().nth(1)); if std::env::args().nth(1).is_none(){ use std::os::unix::process::ExitStatusExt; println!("sig {:?}",Command::new("/work/hard").arg("x").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap().signal()); } else { println!("{}",rec(100000000)); } }

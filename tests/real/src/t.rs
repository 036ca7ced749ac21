use std::thread; use std::sync::{Arc,Mutex,mpsc}; use std::collections::HashMap;
fn fib(n:u32)->u64{ if n<2 {n as u64} else {fib(n-1)+fib(n-2)} }
fn main(){ let m=Arc::new(Mutex::new(HashMap::new())); let mut v=vec![];
 for i in 0..8{ let m=m.clone(); v.push(thread::spawn(move||{ for j in 0..1000{ *m.lock().unwrap().entry(j%10).or_insert(0)+=i; } })); }
 for t in v{t.join().unwrap();}
 let (tx,rx)=mpsc::channel(); thread::spawn(move||{for i in 0..100{tx.send(i).unwrap();}}); let s:i32=rx.iter().sum();
 println!("{} {} {}", m.lock().unwrap()[&3], s, fib(30));
 let r=std::panic::catch_unwind(||{ let a:Vec<i32>=vec![]; a[0] }); println!("panic {}", r.is_err()); }

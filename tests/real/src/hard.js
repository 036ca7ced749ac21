const {Worker,isMainThread,parentPort,workerData}=require('worker_threads');
const cp=require('child_process');
if(!isMainThread){const a=new Int32Array(workerData);for(let i=0;i<200000;i++)Atomics.add(a,0,1);
 Atomics.store(a,1,1);parentPort.postMessage(0);}
else (async()=>{
 const sab=new SharedArrayBuffer(16);
 await Promise.all([1,2,3,4].map(()=>new Promise((r,j)=>{const w=new Worker(__filename,{workerData:sab});w.on('exit',r);w.on('error',j);})));
 console.log('atomics',new Int32Array(sab)[0]);
 // deopt: types change under a hot function
 function add(a,b){return a+b} let s=0;for(let i=0;i<1e6;i++)s=add(s,i);let d=add('x',1);for(let i=0;i<1e5;i++)s=add(s,0.5);
 console.log('deopt',s,d);
 let f=new Float64Array(100000);for(let k=0;k<20;k++)for(let i=0;i<f.length;i++)f[i]=Math.sqrt(f[i]*1.5+i)+Math.exp(-i);
 console.log('f64',f[99999].toFixed(9));
 const m=new Map();for(let i=0;i<300000;i++)m.set('k'+i,{i});let t=0;for(const v of m.values())t+=v.i;console.log('map',t);
 let n=0;for(let i=0;i<20000;i++){try{null.x}catch(e){n++}}console.log('throws',n);
 const c=cp.fork(__dirname+'/hard-child.js');c.on('message',m=>{console.log('ipc',m.x);c.kill('SIGTERM')});
 c.on('exit',(code,sig)=>{console.log('exit',code,sig);
 const rec=()=>rec();try{rec()}catch(e){console.log(e instanceof RangeError)}
 setTimeout(()=>process.kill(process.pid,'SIGUSR2'),20);process.on('SIGUSR2',()=>{console.log('usr2');process.exit(3)});setInterval(()=>{},1000);});
 c.send({x:20});
})();

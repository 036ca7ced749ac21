import threading,multiprocessing,asyncio,subprocess,concurrent.futures,signal,os,sqlite3,ssl,ctypes,json
def f(x): return x*x
if __name__=='__main__':
    with multiprocessing.Pool(3) as p: print('pool',sum(p.map(f,range(100))))
    with concurrent.futures.ThreadPoolExecutor(8) as e: print('threads',sum(e.map(f,range(100))))
    async def main():
        async def w(i): await asyncio.sleep(0.01); return i
        r=await asyncio.gather(*[w(i) for i in range(50)])
        pr=await asyncio.create_subprocess_exec('echo','sub',stdout=subprocess.PIPE); o,_=await pr.communicate()
        return sum(r),o.decode().strip()
    print('asyncio',asyncio.run(main()))
    print('subprocess',subprocess.run(['sh','-c','cat; exit 3'],input=b'in',capture_output=True).returncode)
    c=[]; signal.signal(signal.SIGALRM,lambda *a:c.append(1)); signal.setitimer(signal.ITIMER_REAL,0.01,0.01)
    while len(c)<5: pass
    signal.setitimer(signal.ITIMER_REAL,0); print('timer ok')
    db=sqlite3.connect(':memory:'); db.execute('create table t(a)'); db.executemany('insert into t values(?)',[(i,) for i in range(1000)]); print('sql',db.execute('select sum(a) from t').fetchone())
    print('ssl',ssl.OPENSSL_VERSION.split()[0], ctypes.CDLL(None).abs(-5))
    q=multiprocessing.Queue(); p=multiprocessing.Process(target=lambda:q.put(json.dumps([1])));p.start();print('q',q.get());p.join()

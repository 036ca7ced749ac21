import multiprocessing as mp,signal,os,mmap,socket,select,threading,faulthandler,ctypes,resource,fcntl,pty,time,tempfile,shutil
from multiprocessing import shared_memory
def w(n,q,l,v):
    for i in range(200):
        with l: v.value+=1
    q.put(os.getpid())
if __name__=='__main__':
    for m in ('fork','spawn','forkserver'):
        c=mp.get_context(m); q=c.Queue(); l=c.Lock(); v=c.Value('i',0)
        ps=[c.Process(target=w,args=(i,q,l,v)) for i in range(3)]
        [p.start() for p in ps]; s={q.get() for p in ps}; [p.join() for p in ps]; print(m,v.value,len(s))
    sh=shared_memory.SharedMemory(create=True,size=4096); sh.buf[0]=7; s2=shared_memory.SharedMemory(sh.name); print('shm',s2.buf[0]); s2.close(); sh.close(); sh.unlink()
    CB=ctypes.CFUNCTYPE(ctypes.c_int,ctypes.POINTER(ctypes.c_int),ctypes.POINTER(ctypes.c_int)); arr=(ctypes.c_int*5)(5,1,4,2,3)
    ctypes.CDLL(None).qsort(arr,5,4,CB(lambda a,b:a[0]-b[0])); print('qsort',list(arr))
    a,b=socket.socketpair(); fd=os.open('/etc/passwd',os.O_RDONLY); socket.send_fds(a,[b'x'],[fd]); m,f,_,_=socket.recv_fds(b,10,2); print('fds',os.read(f[0],4))
    print('memfd',os.write(os.memfd_create('x'),b'abc'), 'pidfd',os.pidfd_open(os.getpid())>0)
    pid,fd=pty.fork()
    if not pid: os.write(1,b'tty %d' % os.isatty(0)); os._exit(9)
    print('pty',os.read(fd,100), os.waitstatus_to_exitcode(os.waitpid(pid,0)[1]))
    p=os.fork()
    if not p: signal.signal(signal.SIGSEGV,signal.SIG_DFL); ctypes.string_at(0)
    print('segv',os.WTERMSIG(os.waitpid(p,0)[1]))
    got=[]; signal.signal(signal.SIGALRM,lambda *a:got.append(1)); signal.setitimer(signal.ITIMER_REAL,.01,.01); t=time.time()
    while len(got)<5 and time.time()-t<5: sum(range(1000))
    signal.setitimer(signal.ITIMER_REAL,0); print('alarms',len(got)>=5)
    resource.setrlimit(resource.RLIMIT_AS,(2**34,2**34))
    print('rlimit',resource.getrlimit(resource.RLIMIT_NOFILE)[0]>0, os.sched_getaffinity(0)!=set(), os.cpu_count()>0)
    r=os.posix_spawn('/bin/echo',['echo','spawned'],os.environ); os.waitpid(r,0)
    x=os.fork()
    if not x:
        th=threading.Thread(target=lambda: time.sleep(9),daemon=True); th.start(); os.execv('/bin/sh',['sh','-c','echo exec from threads'])
    os.waitpid(x,0); print(time.strftime('%Z',time.localtime(0)), os.getloadavg()!=None, shutil.disk_usage('/').total>0, os.copy_file_range is not None)

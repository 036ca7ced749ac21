package main
import ("fmt";"os";"os/exec";"os/signal";"net/http";"net/http/httptest";"io";"runtime";"runtime/pprof";"bytes";"sync/atomic";"syscall";"time";"context";"math/big";"crypto/sha256";"encoding/json")
func deep(n int) int { var b [100]byte; b[n%100]=1; if n==0 {return 0}; return deep(n-1)+int(b[n%100])}
func main(){
 var spin int64; stop:=make(chan bool); go func(){for{select{case <-stop:return;default:atomic.AddInt64(&spin,1)}}}()
 go func(){ for { } }() // preempted asynchronously
 time.Sleep(20*time.Millisecond); for i:=0;i<5;i++{runtime.GC()}; stop<-true; fmt.Println("preempt",spin>0)
 fmt.Println("deep",deep(200000))
 var pb bytes.Buffer; pprof.StartCPUProfile(&pb); x:=0; for i:=0;i<100000000;i++{x+=i%7}; pprof.StopCPUProfile(); fmt.Println("prof",pb.Len()>0,x)
 c:=make(chan os.Signal,1); signal.Notify(c,syscall.SIGUSR1); syscall.Kill(os.Getpid(),syscall.SIGUSR1); fmt.Println("sig",<-c)
 s:=httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,r *http.Request){io.WriteString(w,"pong")})); n:=0; for i:=0;i<50;i++{r,e:=http.Get(s.URL); if e==nil {b,_:=io.ReadAll(r.Body);r.Body.Close();n+=len(b)}}; fmt.Println("http",n)
 o,_:=exec.Command("sh","-c","echo sub; exit 0").Output(); fmt.Print(string(o))
 ctx,cancel:=context.WithTimeout(context.Background(),50*time.Millisecond); defer cancel(); fmt.Println("kill",exec.CommandContext(ctx,"sleep","5").Run())
 z:=big.NewInt(1); for i:=int64(1);i<500;i++{z.Mul(z,big.NewInt(i))}; fmt.Printf("%x\n",sha256.Sum256([]byte(z.String())))
 j,_:=json.Marshal(map[string]interface{}{"a":[]int{1,2},"b":1.5}); fmt.Println(string(j))
 pn:=0; for i:=0;i<1000;i++{func(){defer func(){if recover()!=nil{pn++}}(); var m map[string]int; m["x"]=1}(); func(){defer func(){if recover()!=nil{pn++}}(); var p *[100]int; _=p[i%100]}()}; fmt.Println("panics",pn)
 var d *int; defer fmt.Println("deferred"); *d=1
}

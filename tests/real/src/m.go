package main
import ("fmt";"runtime";"sync";"sort";"strings";"time")
func fib(n int) int { if n<2 {return n}; return fib(n-1)+fib(n-2)}
func main(){
 var wg sync.WaitGroup; ch:=make(chan int,10); var mu sync.Mutex; tot:=0
 for i:=0;i<100;i++{ wg.Add(1); go func(k int){defer wg.Done(); for j:=0;j<1000;j++{ mu.Lock(); tot+=k%3; mu.Unlock(); if j%100==0 {ch<-k} } }(i)}
 go func(){wg.Wait();close(ch)}()
 c:=0; for range ch {c++}
 fmt.Println("tot",tot,"c",c,"fib",fib(30))
 var s []string; for i:=0;i<50000;i++{s=append(s,fmt.Sprint(i*7919%50021))}; sort.Strings(s)
 for i:=0;i<20;i++{ x:=make([][]byte,0); for j:=0;j<1000;j++{x=append(x,make([]byte,10000))}; _=x; runtime.GC() }
 func(){defer func(){fmt.Println("recovered",recover()!=nil)}(); var p *int; *p=1}()
 t:=time.NewTimer(5*time.Millisecond); <-t.C
 fmt.Println(strings.Join(s[:3],","), runtime.GOARCH)
}

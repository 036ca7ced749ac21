package main
/*
#include <stdlib.h>
#include <pthread.h>
#include <string.h>
extern int goCb(int);
static int call(int n){int s=0;for(int i=0;i<n;i++)s+=goCb(i);return s;}
static void *thr(void *p){*(int*)p=goCb(41);return 0;}
static int onthread(void){pthread_t t;int r=0;pthread_create(&t,0,thr,&r);pthread_join(t,0);return r;}
*/
import "C"
import ("fmt";"runtime/debug";"sync")
//export goCb
func goCb(x C.int) C.int { return x+1 }
func main(){ fmt.Println("cgo",C.call(10000),C.onthread())
 var wg sync.WaitGroup; for i:=0;i<50;i++{wg.Add(1);go func(){defer wg.Done();for j:=0;j<100;j++{C.call(10)}}()};wg.Wait()
 debug.SetPanicOnFault(true); func(){defer func(){fmt.Println("fault",recover()!=nil)}(); p:=(*int)(C.malloc(0)); _=p; var q *[1<<30]byte; q[1<<29]=1}()
 fmt.Println("ok") }

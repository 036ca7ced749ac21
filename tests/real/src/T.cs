using System;using System.Linq;using System.Threading;using System.Threading.Tasks;using System.Collections.Generic;
class T{ static int Fib(int n){return n<2?n:Fib(n-1)+Fib(n-2);}
 static void Main(){ Console.WriteLine("fib "+Fib(30));
 var s=Enumerable.Range(0,8).Select(i=>Task.Run(()=>{long t=0;for(int j=0;j<1000000;j++)t+=j%(i+1);return t;})).ToArray(); Task.WaitAll(s); Console.WriteLine(s.Sum(x=>x.Result));
 int n=0; for(int i=0;i<100;i++){ try{ string x=null; n+=x.Length; }catch(NullReferenceException){n++;} } Console.WriteLine("nre "+n);
 for(int i=0;i<200;i++){ var l=new List<byte[]>(); for(int j=0;j<100;j++) l.Add(new byte[10000]); } GC.Collect(); Console.WriteLine("gc "+(GC.CollectionCount(0)>0)); } }

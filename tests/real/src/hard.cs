using System;using System.Threading;using System.Threading.Tasks;using System.Diagnostics;using System.IO;using System.Net;using System.Net.Sockets;using System.Collections.Concurrent;using System.Text.RegularExpressions;
class M{ static int so(int n){return so(n+1)+1;} static volatile bool stop; 
 static async Task<int> A(int n){await Task.Delay(5);return n;}
 static void Main(){ long c=0; var th=new Thread[6]; for(int i=0;i<6;i++){th[i]=new Thread(()=>{for(int j=0;j<50000;j++)Interlocked.Increment(ref c);});th[i].Start();} foreach(var t in th)t.Join(); Console.WriteLine("atomic "+c);
 int n=0;for(int i=0;i<2000;i++){try{int z=i-i;n+=1/z;}catch(DivideByZeroException){n++;}try{int[] a=new int[2];a[i+2]=1;}catch(IndexOutOfRangeException){n++;}} Console.WriteLine("exc "+n);
 var r=0;for(int i=0;i<20;i++)r+=A(i).Result;Console.WriteLine("async "+r);
 var g=new Thread(()=>{while(!stop){} });g.Start();for(int i=0;i<10;i++)GC.Collect();stop=true;g.Join();Console.WriteLine("gc");
 var p=Process.Start(new ProcessStartInfo("/bin/echo","sub"){RedirectStandardOutput=true,UseShellExecute=false});Console.Write(p.StandardOutput.ReadToEnd());p.WaitForExit();
 var l=new TcpListener(IPAddress.Loopback,0);l.Start();var task=Task.Run(()=>{using(var s=l.AcceptTcpClient())s.GetStream().Write(new byte[]{65,66},0,2);});var cl=new TcpClient();cl.Connect((IPEndPoint)l.LocalEndpoint);Console.WriteLine(cl.GetStream().ReadByte());
 Console.WriteLine(new Regex(@"(\d+)x").Match("ab12x").Groups[1]);decimal d=1;for(int i=1;i<20;i++)d*=i;Console.WriteLine(d+" "+Math.Round(Math.Sin(1),12)+" "+(float)0.1+" "+(int)(double)1e5);Environment.Exit(5);}}

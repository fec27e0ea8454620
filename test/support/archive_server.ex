defmodule Image.ZeroShot.Test.ArchiveServer do
  @moduledoc false

  # Answers requests on the loopback interface, each with what a function of its path says: `{status,
  # headers, body}`, or `:silence`. Ends with the test.

  import ExUnit.Callbacks, only: [start_supervised!: 1]

  @patience 60_000

  @doc "Returns the address without a slash at its end."
  def start!(answer) do
    {:ok, listener} =
      :gen_tcp.listen(0, [:binary, active: false, ip: {127, 0, 0, 1}, packet: :http_bin])

    {:ok, port} = :inet.port(listener)
    start_supervised!({Task, fn -> accept(listener, answer) end})
    "http://127.0.0.1:#{port}"
  end

  defp accept(listener, answer) do
    {:ok, socket} = :gen_tcp.accept(listener)
    respond(socket, answer.(path(socket)))
    accept(listener, answer)
  end

  defp path(socket) do
    {:ok, {:http_request, :GET, {:abs_path, path}, _version}} =
      :gen_tcp.recv(socket, 0, @patience)

    skip_headers(socket)
    path
  end

  defp skip_headers(socket) do
    with {:ok, {:http_header, _, _, _, _}} <- :gen_tcp.recv(socket, 0, @patience),
         do: skip_headers(socket)
  end

  defp respond(socket, :silence), do: :gen_tcp.close(socket)

  defp respond(socket, {status, headers, body}) do
    lines = for {name, value} <- headers, do: "#{name}: #{value}\r\n"
    length = "content-length: #{byte_size(body)}\r\nconnection: close\r\n"
    :gen_tcp.send(socket, ["HTTP/1.1 #{status} Some\r\n", lines, length, "\r\n", body])
    :gen_tcp.close(socket)
  end
end
